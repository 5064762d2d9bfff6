import os
import signal
import subprocess
import sys

import pytest

from actors.spool import Spool
from actors.veto_file import VetoFile
from serl_core.errors import DataError
from serl_core.testing.episodes import make_episode
from serl_core.transport.codec import decode_transition
from serl_core.types import EndReason

ACTOR = """
import sys, time
from pathlib import Path
from actors.operator_access import operator_access
from actors.operator_desk import OperatorDesk
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from actors.veto import VetoWindow
from actors.veto_file import VetoFile
from examples.ram_insertion import CONFIG
from serl_core.operator.messages import Veto
from serl_core.testing.episodes import make_episode
from serl_core.testing.fakes import FakeRobot
from serl_core.transport.in_process import InProcessHub
from serl_core.types import EndReason
from tests.actors.fake_console import FakeConsole
from tests.actors.fakes import open_env

run = Path(sys.argv[1])
spool = Spool(run / "a.spool", digest="cafe").open()
env = open_env(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose))
with operator_access(run, "a", env, session="s", vetoes=VetoFile(run / "a.vetoes")) as (desk, _):
    window = VetoWindow(SpooledSender(spool, InProcessHub().actor()), desk)
    for episode in range(2):
        *steps, end = make_episode(session="s", episode=episode, first_sequence=5 * episode, end=EndReason.SUCCESS)
        for step in steps:
            window.put(step)
        window.put(end, veto_until_s=desk.claim_success("s", episode))
    with FakeConsole(run / "a.operator") as console:
        console.say(Veto(operator="ann", session="s", episode=0))
        give_up_s = time.monotonic() + 60
        while not (run / "a.vetoes").exists() or not (run / "a.vetoes").read_bytes().endswith(b"}\\n"):
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
    print("told", flush=True)
    time.sleep(60)  # a long reset: nobody pumps
"""


def ends(spool):
    transitions = [decode_transition(row.record) for row in spool.pending(999)]
    return {t.provenance.episode: EndReason(int(t.end)) for t in transitions if t.end != EndReason.RUNNING}


def test_a_veto_that_came_during_a_reset_outlives_the_actor(tmp_path):
    """It was in the actor's memory until the arm had arrived at its start: kill -9 made it a success again."""
    actor = subprocess.Popen([sys.executable, "-c", ACTOR, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert actor.stdout.readline() == "told\n"
    os.kill(actor.pid, signal.SIGKILL)
    actor.stdout.close()
    actor.wait()
    with Spool(tmp_path / "a.spool", digest="cafe") as spool:
        assert ends(spool) == {0: EndReason.SUCCESS, 1: EndReason.SUCCESS}
        VetoFile(tmp_path / "a.vetoes").apply(spool)
        assert ends(spool) == {0: EndReason.OPERATOR_STOP, 1: EndReason.SUCCESS}
    assert not (tmp_path / "a.vetoes").exists()


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "a.spool", digest="cafe") as spool:
        for step in make_episode(session="s", episode=3, steps=200, end=EndReason.SUCCESS):
            spool.append(step)
        yield spool


def test_only_the_success_that_was_meant_is_amended(spool, tmp_path):
    vetoes = VetoFile(tmp_path / "a.vetoes")
    for session, episode in (("s", 2), ("t", 3)):
        vetoes.add(session, episode)
    vetoes.apply(spool)
    assert ends(spool) == {3: EndReason.SUCCESS}
    vetoes.add("s", 3)
    vetoes.apply(spool)
    assert ends(spool) == {3: EndReason.OPERATOR_STOP}
    vetoes.apply(spool)  # nothing left, and nothing changes


def test_a_line_that_a_power_cut_has_left_half_written_spoils_no_other(spool, tmp_path):
    path = tmp_path / "a.vetoes"
    path.write_bytes(b'{"session":"s","epi')
    VetoFile(path).add("s", 3)
    with path.open("ab") as file:
        file.write(b'{"session":"s","epi')
    VetoFile(path).apply(spool)
    assert ends(spool) == {3: EndReason.OPERATOR_STOP}


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.vetoes: cannot be written"):
        VetoFile(tmp_path / "nowhere" / "a.vetoes").add("s", 3)
