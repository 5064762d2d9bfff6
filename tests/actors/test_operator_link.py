import json
import stat
import subprocess
import sys
import time

import pytest

from actors.operator_link import MAX_CONSOLES, OperatorLink
from actors.operator_mail import GONE_S, WAITING
from serl_core.clock import ManualClock
from serl_core.errors import DataError
from serl_core.operator.messages import OperatorNotice, Pause, RecordProgress, Resume
from serl_core.threads import STATUS
from tests.actors.fake_console import FakeConsole
from tests.actors.teleop.fake_hidapi import eventually
from tests.flooded_port import assert_outlives_a_flood
from tests.serl_core.operator.test_operator_messages import REPORT

DEFECT = """
import sys, time
from pathlib import Path
from actors.operator_link import OperatorLink
from serl_core.threads import dying_together
def receive(message, arrived_s):
    print(time.monotonic(), flush=True)
    raise KeyError("defect")
with dying_together(), OperatorLink(Path(sys.argv[1]), receive):
    time.sleep(60)
"""

HELD_UP = """
import json, sys, time
from pathlib import Path
from actors.operator_link import OperatorLink
OperatorLink._read = lambda *_: time.sleep(5.0)
path = Path(sys.argv[2])
OperatorLink(path, lambda *_: []).__enter__()
address = json.loads(path.read_text())["address"]
"""


class Rig:
    def __init__(self, folder, **options):
        self.path = folder / "run" / "actor-0.operator"
        self.taken = []
        self.answers = []
        self.link = OperatorLink(self.path, self._take, **options)

    def _take(self, message, arrived_s):
        self.taken.append((message, arrived_s))
        return self.answers


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    with rig.link:
        yield rig


def notice(text):
    return OperatorNotice(level="info", text=text)


def test_the_file_is_the_owners_alone_says_where_the_actor_is_and_goes_with_it(tmp_path):
    rig = Rig(tmp_path)
    with rig.link:
        assert stat.S_IMODE(rig.path.stat().st_mode) == 0o600
        text = rig.path.read_text()
        found = json.loads(text)
        assert text.count("\n") == 1
        assert found["address"].startswith("tcp://127.0.0.1:")
        assert len(bytes.fromhex(found["token"])) == 32
    assert list(rig.path.parent.iterdir()) == []


def test_the_file_names_the_robot_server_that_the_actor_commands(tmp_path):
    rig = Rig(tmp_path, robot="http://127.0.0.1:5001", server="abc")
    with rig.link:
        found = json.loads(rig.path.read_text())
    assert (found["robot"], found["server"]) == ("http://127.0.0.1:5001", "abc")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(DataError, match=r"actor-0\.operator cannot be written"):
        Rig(tmp_path).link.__enter__()


def test_what_a_console_says_is_taken_in_with_the_time_of_its_arrival(rig):
    with FakeConsole(rig.path) as console:
        before_s = time.monotonic()
        console.say(Pause(operator="ann"))
        eventually(lambda: rig.taken)
    ((message, arrived_s),) = rig.taken
    assert message == Pause(operator="ann")
    assert before_s <= arrived_s <= time.monotonic()


def test_an_answer_goes_to_whoever_asked_and_a_word_to_all(rig):
    with FakeConsole(rig.path) as ann, FakeConsole(rig.path) as bob:
        for console in (ann, bob):
            console.say(Pause(operator="x"))
        eventually(lambda: len(rig.taken) == 2)
        rig.answers.append(notice("to ann"))
        ann.say(Resume(operator="ann"))
        ann.await_notice("to ann")
        rig.link.tell(notice("to all"))
        ann.await_notice("to all")
        bob.await_notice("to all")
    assert notice("to ann") not in bob.heard


def test_nothing_is_taken_before_the_token(rig):
    with FakeConsole(rig.path, greets=False) as console:
        console.say(Pause(operator="eve"))
        eventually(lambda: rig.link.counters()["rejected"] == 1)
        console.greet()
        console.say(Pause(operator="ann"))
        eventually(lambda: rig.taken)
    assert [message.operator for message, _ in rig.taken] == ["ann"]


def test_a_wrong_token_is_refused_and_hears_nothing(rig):
    with FakeConsole(rig.path, token="0" * 64) as console:
        console.say(Pause(operator="eve"))
        eventually(lambda: rig.link.counters()["rejected"] == 2)
        rig.link.tell(notice("secret"))
        assert console.listen(0.05) == []
    assert (rig.taken, rig.link.is_watched) == ([], False)


@pytest.mark.parametrize("frame", [b"", b"{}", b"\xff" * 100])
def test_what_is_no_message_is_counted_and_changes_nothing(rig, frame):
    with FakeConsole(rig.path) as console:
        console.say_bytes(frame)
        console.say(Pause(operator="ann"))
        eventually(lambda: rig.taken)
    assert rig.link.counters()["rejected"] == 1


def test_a_console_that_comes_later_hears_the_newest_report_and_progress(rig):
    progress = RecordProgress(what="demonstrations", kept=2, wanted=20)
    rig.link.tell(progress)
    rig.link.tell(REPORT)
    with FakeConsole(rig.path) as console:
        console.await_(lambda said: said == REPORT)
        assert progress in console.heard


def test_the_newest_report_is_repeated_as_a_sign_of_life(rig):
    with FakeConsole(rig.path) as console:
        rig.link.tell(REPORT)
        console.await_(lambda said: said == REPORT)
        console.await_(lambda said: said == REPORT)


def test_a_console_that_is_silent_is_taken_for_gone_and_one_that_greets_is_not(tmp_path):
    clock = ManualClock()
    rig = Rig(tmp_path, now=clock)
    with rig.link, FakeConsole(rig.path) as console:
        eventually(lambda: rig.link.is_watched)
        clock.advance(0.9 * GONE_S)
        console.greet()
        console.say(Pause(operator="ann"))
        eventually(lambda: rig.taken)
        clock.advance(0.9 * GONE_S)
        rig.link.tell(notice("still here"))
        console.await_notice("still here")
        clock.advance(0.2 * GONE_S)
        eventually(lambda: not rig.link.is_watched)


def test_a_console_that_is_gone_is_found_out(rig):
    with FakeConsole(rig.path):
        eventually(lambda: rig.link.is_watched)

    def is_alone():
        rig.link.tell(REPORT)
        return not rig.link.is_watched

    eventually(is_alone)


def test_there_are_not_more_consoles_than_allowed(rig):
    consoles = [FakeConsole(rig.path) for _ in range(MAX_CONSOLES + 1)]
    eventually(lambda: rig.link.counters()["rejected"] == 1)
    for console in consoles:
        console.__exit__()


def test_while_the_thread_cannot_send_the_oldest_words_are_dropped_and_nobody_waits(tmp_path):
    """The control loop calls `tell`: it may never be held up."""
    rig = Rig(tmp_path)
    rig.link._mail.add(b"slow", 0.0)
    for number in range(WAITING + 5):
        rig.link.tell(notice(str(number)))
    assert rig.link.counters()["dropped"] == 5


def test_a_console_that_does_not_read_costs_the_others_nothing(rig):
    with FakeConsole(rig.path) as deaf, FakeConsole(rig.path) as console:
        for one in (deaf, console):
            one.say(Pause(operator="x"))
        eventually(lambda: len(rig.taken) == 2)
        for number in range(2000):
            rig.link.tell(notice("x" * 900 + str(number)))
            console.listen()
        rig.link.tell(notice("last"))
        console.await_notice("last")


def test_a_defect_in_the_link_ends_the_program_within_a_second(tmp_path):
    """The link fell silent, and the arm went on moving without anybody to stop it from the page."""
    path = tmp_path / "actor-0.operator"
    with subprocess.Popen([sys.executable, "-c", DEFECT, str(path)], stdout=-1, stderr=-1, text=True) as program:
        eventually(path.exists)
        with FakeConsole(path) as console:
            console.say(Pause(operator="ann"))
            said, told = program.communicate(timeout=60)
        took_s = time.monotonic() - float(said)
    assert program.returncode == STATUS
    assert "the thread operator-link has died" in told
    assert took_s < 1.0


def test_an_actor_that_is_held_up_outlives_a_console_killed_with_messages_unread(tmp_path):
    """ZeroMQ's heartbeat ended the process: it writes to a connection that broke."""
    assert_outlives_a_flood(HELD_UP, str(tmp_path / "actor-0.operator"))
