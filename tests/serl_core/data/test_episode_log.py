import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serl_core.clock import ManualClock
from serl_core.data.episode_log import QUIET_S, EpisodeLog, load_episodes
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import DataError
from serl_core.testing.episodes import STATE_SPEC, assert_same_transitions, make_episode
from serl_core.types import EndReason


@pytest.fixture
def reopen(tmp_path):
    """Open the log; each call closes the one before, as a new process would find it."""
    logs = []

    def open_again(digest="cafe", **options):
        for log in logs:
            log.close()
        logs.append(EpisodeLog(tmp_path / "log", digest, **options))
        return logs[-1]

    yield open_again
    for log in logs:
        log.close()


def interleaved():
    """Return three episodes of two sessions as they arrive in turns; the last one is still running."""
    a = make_episode(session="a", steps=4) + make_episode(session="a", episode=1, first_sequence=4, steps=3)
    b = make_episode(session="b", steps=7, end=EndReason.RUNNING)
    return [step for pair in zip(a, b, strict=True) for step in pair]


def test_everything_comes_back_in_the_order_of_arrival(reopen):
    history = interleaved()
    log = reopen()
    for step in history:
        log.append([step])
    assert_same_transitions(list(log.transitions()), history)
    assert_same_transitions(list(reopen().transitions()), history)


def test_a_copy_of_an_episode_under_another_name_is_refused(reopen, tmp_path):
    reopen().append(make_episode())
    reopen()
    episode = tmp_path / "log" / "episodes" / "session-000000.safetensors"
    shutil.copy(episode, episode.with_name("copy.safetensors"))
    with pytest.raises(
        DataError, match=r"copy\.safetensors holds what belongs in session-000000\.safetensors: rename it"
    ):
        reopen()


def test_what_a_small_buffer_has_overwritten_need_not_be_read(reopen):
    log = reopen()
    for number in range(10):
        log.append(make_episode(session="ab"[number % 2], episode=number, first_sequence=5 * number))
    log = reopen()
    inserted, told = {"a": 44, "b": 49}, {("ab"[number % 2], number) for number in range(10)}
    assert log.needed_since(12, inserted, told) == 35
    assert [step.provenance.sequence for step in log.transitions(35)] == list(range(35, 50))
    assert log.needed_since(12, inserted, told - {("b", 5)}) == 25  # not told of yet
    assert log.needed_since(12, inserted | {"a": 39}, told) == 30  # the newest of it is not inserted yet
    assert log.needed_since(12, {"b": 49}, told) == 0
    assert log.needed_since(50, inserted, told) == log.needed_since(51, inserted, told) == 0
    assert log.needed_since(12, inserted, ()) == 0


def test_an_episode_that_reaches_into_what_is_needed_is_read_whole_and_one_that_was_left_is_not(reopen):
    long = make_episode(session="long", steps=20)
    left = make_episode(session="left", steps=3, end=EndReason.RUNNING)
    others = [make_episode(episode=number, first_sequence=5 * number) for number in range(4)]
    log = reopen()
    log.append([*left, *make_episode(session="left", episode=1, first_sequence=3, steps=1)])
    for number, episode in enumerate(others):
        log.append([*long[5 * number : 5 * number + 5], *episode])
    log = reopen()
    told = {("left", 1), ("long", 0), *(("session", number) for number in range(4))}
    since = log.needed_since(12, {"left": 3, "long": 19, "session": 19}, told)
    assert since == 19
    read = {(step.provenance.session, step.provenance.episode) for step in log.transitions(since)}
    assert read == {("long", 0), ("session", 1), ("session", 2), ("session", 3)}


def test_a_reopened_log_knows_what_to_acknowledge_and_goes_on(reopen):
    history = interleaved()
    reopen().append(history[:9])
    log = reopen()
    assert (log.position, log.last_sequences()) == (9, {"a": 4, "b": 3})
    log.append(history[9:])
    log = reopen()
    assert (log.position, log.last_sequences()) == (14, {"a": 6, "b": 6})
    assert_same_transitions(list(log.transitions()), history)


def test_a_buffer_rebuilt_from_the_log_equals_the_live_one(reopen):
    live, rebuilt = ReplayBuffer(STATE_SPEC, 9), ReplayBuffer(STATE_SPEC, 9)
    log = reopen()
    for step in interleaved():
        log.append([step])
        live.insert(step)
    for step in reopen().transitions():
        rebuilt.insert(step)
    one, two = (buffer.sample(np.random.default_rng(0), (32,)) for buffer in (live, rebuilt))
    np.testing.assert_array_equal(one.observation.proprio, two.observation.proprio)


def test_a_finished_episode_becomes_a_file_and_leaves_the_journal(reopen, tmp_path):
    log = reopen()
    log.append(make_episode(session="a"))
    assert not list((tmp_path / "log" / "episodes").iterdir())
    log.save_ended()
    assert [file.name for file in (tmp_path / "log" / "episodes").iterdir()] == ["a-000000.safetensors"]
    assert not list((tmp_path / "log" / "journals").iterdir())
    (episode,) = load_episodes(tmp_path / "log" / "episodes")
    assert_same_transitions(episode, make_episode(session="a"))


def test_what_is_there_already_is_skipped(reopen):
    log = reopen()
    log.append(make_episode()[:3])
    log.append(make_episode())
    log.append(make_episode())
    assert log.position == 5
    assert_same_transitions(list(log.transitions()), make_episode())


def test_an_episode_whose_end_was_never_seen_is_kept_too(reopen, tmp_path):
    log = reopen()
    log.append(make_episode(steps=3, end=EndReason.RUNNING))
    log.append(make_episode(episode=1, first_sequence=3))
    log.save_ended()
    assert len(list((tmp_path / "log" / "episodes").iterdir())) == 2
    assert reopen().position == 8


@settings(max_examples=30)
@given(st.data())
def test_a_torn_last_entry_is_dropped(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    steps = make_episode(steps=4, end=EndReason.RUNNING)
    log = EpisodeLog(folder, "cafe")
    log.append(steps[:3])
    journal = folder / "journals" / "session-000000000.journal"
    safe = journal.stat().st_size
    log.append(steps[3:])
    log.close()
    cut = data.draw(st.integers(safe, journal.stat().st_size - 1))
    is_zeroed = data.draw(st.booleans())  # as some file systems do after a power cut
    journal.write_bytes(journal.read_bytes()[:cut].ljust(journal.stat().st_size if is_zeroed else cut, b"\0"))
    log = EpisodeLog(folder, "cafe")
    assert log.last_sequences() == {"session": 2}
    log.append(steps[3:])
    log.close()
    log = EpisodeLog(folder, "cafe")
    assert_same_transitions(list(log.transitions()), steps)
    log.close()


def test_damage_inside_a_journal_is_an_error_and_not_a_torn_end(reopen, tmp_path):
    reopen().append(make_episode(end=EndReason.RUNNING))
    journal = tmp_path / "log" / "journals" / "session-000000000.journal"
    whole = journal.read_bytes()
    for place in (1, 5, 10, 60):  # length, checksum, arrival, record of the first entry
        damaged = bytearray(whole)
        damaged[place] ^= 1
        journal.write_bytes(damaged)
        with pytest.raises(DataError, match=r"session-000000000\.journal is corrupt at byte 0: .*; move it away"):
            reopen()
    journal.write_bytes(whole)
    assert reopen().position == 5


def test_a_kill_between_the_file_and_the_journal_doubles_nothing(reopen, tmp_path):
    """The episode's file is there, its journal too: the file wins."""
    log = reopen()
    log.append(make_episode()[:4])
    journal = tmp_path / "log" / "journals" / "session-000000000.journal"
    log.append(make_episode()[4:])
    before = journal.read_bytes()
    log.save_ended()
    journal.write_bytes(before)
    log = reopen()
    assert log.position == 5
    assert_same_transitions(list(log.transitions()), make_episode())
    assert not journal.exists()


def test_a_corrupt_episode_is_named_with_its_remedy(reopen, tmp_path):
    log = reopen()
    log.append(make_episode())
    log.save_ended()
    path = tmp_path / "log" / "episodes" / "session-000000.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"session-000000\.safetensors is corrupt: .*; move it out of its folder"):
        list(reopen().transitions())


def test_a_second_learner_is_refused(reopen, tmp_path):
    reopen()
    with pytest.raises(DataError, match="another learner writes to"):
        EpisodeLog(tmp_path / "log", "cafe")


def test_a_log_of_another_task_is_refused_with_both_digests(reopen):
    reopen().append(make_episode())
    with pytest.raises(DataError, match="digest cafe, this one has beef"):
        reopen("beef")


def test_a_full_disk_leaves_only_whole_steps(reopen, tmp_path, monkeypatch):
    log = reopen()
    steps = make_episode()
    log.append(steps[:2])
    write = os.writev
    monkeypatch.setattr("os.writev", lambda file, parts: write(file, [part[: len(part) // 2] for part in parts]))
    with pytest.raises(DataError, match="No space left on device; make room"):
        log.append(steps[2:])
    monkeypatch.undo()
    assert log.last_sequences() == {"session": 1}
    log.append(steps[2:])
    assert_same_transitions(list(reopen().transitions()), steps)


class Disk:
    """Notes the names of what is synced."""

    def __init__(self, monkeypatch):
        self.synced = []
        for call in ("os.fsync", "os.fdatasync"):
            monkeypatch.setattr(call, lambda file: self.synced.append(os.readlink(f"/proc/self/fd/{file}")))

    def names(self):
        return sorted({os.path.basename(name) for name in self.synced})


def test_a_journal_is_synced_once_a_second(reopen, monkeypatch):
    clock = ManualClock()
    log = reopen(clock=clock)
    steps = make_episode()
    log.append(steps[:1])
    disk = Disk(monkeypatch)
    for step in steps[1:4]:
        log.append([step])
        clock.advance(0.5)
    assert disk.names() == ["journals", "session-000000000.journal"]
    assert len(disk.synced) == 2


def test_only_what_is_synced_may_be_acknowledged(reopen):
    """Transitions were acknowledged, and forgotten by their actor, up to a second before they were on the disk."""
    clock = ManualClock()
    log = reopen(clock=clock)
    steps = make_episode(steps=6)
    log.append(steps[:2])
    assert (log.last_sequences(), log.synced_sequences()) == ({"session": 1}, {})
    clock.advance(1.0)
    log.append([])
    assert log.synced_sequences() == {"session": 1}
    log.append(steps[2:3])
    assert log.synced_sequences() == {"session": 1}
    log.sync()
    assert log.synced_sequences() == {"session": 2}
    log.append(steps[3:])
    assert log.synced_sequences() == {"session": 5}  # the end of an episode is synced at once


def test_a_reopened_log_is_on_the_disk_before_it_is_acknowledged(reopen, monkeypatch):
    """What a killed learner had written but not synced was taken for safe, and so was a new journal's name."""
    reopen().append(make_episode()[:3])
    disk = Disk(monkeypatch)
    log = reopen()
    assert log.synced_sequences() == {"session": 2}
    assert disk.names() == ["journals", "session-000000000.journal"]


def test_nothing_counts_as_synced_that_the_disk_refused(reopen, monkeypatch):
    log = reopen()
    log.append(make_episode()[:3])

    def broken(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        with pytest.raises(DataError, match=r"journals: Input/output error; look at its disk"):
            log.sync()
    assert log.synced_sequences() == {}


WRITER = """
import sys
from pathlib import Path
from serl_core.data.episode_log import EpisodeLog
from serl_core.testing.episodes import make_episode

log = EpisodeLog(Path(sys.argv[1]), "cafe")
for episode in range(10_000):
    for step in make_episode(episode=episode, first_sequence=5 * episode):
        log.append([step])
        print(step.provenance.sequence, flush=True)  # the acknowledgement
"""


@pytest.mark.parametrize("lines", [1, 23, 75])
def test_a_killed_learner_has_lost_nothing_that_it_acknowledged(tmp_path, lines):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [int(writer.stdout.readline()) for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    writer.stdout.close()
    writer.wait()
    log = EpisodeLog(tmp_path, "cafe")
    found = list(log.transitions())
    log.close()
    assert [t.provenance.sequence for t in found] == list(range(len(found)))
    assert acknowledged == list(range(len(acknowledged)))
    assert len(found) - len(acknowledged) in (0, 1)
    expected = [t for e in range(len(found) // 5 + 1) for t in make_episode(episode=e, first_sequence=5 * e)]
    assert_same_transitions(found, expected[: len(found)])


def test_a_log_of_another_encoder_says_which_and_what_to_set(reopen):
    reopen("cafe+resnet10-2").append(make_episode())
    with pytest.raises(DataError, match=r"encoder resnet10-2 and this machine takes small-1: set EncoderConfig\.kind"):
        reopen("cafe+small-1")


def test_a_log_whose_folder_has_gone_is_not_made_anew_and_may_come_back(tmp_path, reopen):
    """Its episodes' folder was made again, while the rest of the log was somewhere else."""
    log = reopen()
    steps = make_episode(steps=6)
    log.append(steps)
    (folder,) = (path.parent for path in tmp_path.rglob("log.json"))
    away = folder.with_name("away")
    folder.rename(away)
    with pytest.raises(DataError, match="is gone; put it back"):
        log.save_ended()
    assert not folder.exists()
    away.rename(folder)
    log.append(make_episode(episode=1, first_sequence=6, steps=2))
    assert [step.provenance.sequence for step in log.transitions()] == list(range(8))
    log.save_ended()
    assert len(list((folder / "episodes").iterdir())) == 2


def test_a_folder_that_goes_while_an_episode_is_saved_is_not_made_anew_either(tmp_path, reopen, monkeypatch):
    log = reopen()
    log.append(make_episode())
    folder = tmp_path / "log"
    folder.rename(tmp_path / "away")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", lambda path: True)  # it was there a moment ago
        with pytest.raises(DataError, match="cannot write"):
            log.save_ended()
    assert not folder.exists()
    (tmp_path / "away").rename(folder)
    log.save_ended()
    assert len(list((folder / "episodes").iterdir())) == 1


def test_a_deleted_journal_is_never_called_safe(tmp_path, reopen):
    log = reopen()
    log.append(make_episode()[:3])
    (journal,) = tmp_path.rglob("*.journal")
    journal.unlink()
    with pytest.raises(DataError, match="cannot sync"):
        log.sync()
    assert log.synced_sequences() == {}
    with pytest.raises(DataError, match="was deleted"):
        log.close()


def test_episodes_are_saved_in_another_thread_while_more_of_them_come(reopen):
    """A learner acknowledges on; before, nobody heard anything until an episode's file was on the disk."""
    log, episodes = reopen(), 60
    is_done = threading.Event()

    def save():
        while not is_done.is_set():
            log.save_ended()

    thread = threading.Thread(target=save)
    thread.start()
    history = [make_episode(session=s, episode=e, first_sequence=5 * e) for e in range(episodes) for s in "ab"]
    for episode in history:
        log.append(episode)
    is_done.set()
    thread.join()
    log.save_ended()
    expected = [step for episode in history for step in episode]
    assert_same_transitions(list(log.transitions()), expected)
    assert_same_transitions(list(reopen().transitions()), expected)


def test_episodes_that_wait_to_be_saved_hold_no_descriptors(reopen):
    """A learner that saves more slowly than many actors end their episodes ran out of them."""
    log = reopen()
    log.append(make_episode(session="a"))
    before = len(os.listdir("/proc/self/fd"))
    for episode in range(1, 40):
        log.append(make_episode(session="a", episode=episode, first_sequence=5 * episode))
    assert len(os.listdir("/proc/self/fd")) == before
    log.save_ended()
    assert len(list(log.transitions())) == 200


def test_an_episode_whose_actor_is_gone_holds_no_descriptor_and_goes_on_if_it_comes_back(reopen):
    """Each killed actor left one, for as long as the learner lived."""
    clock = ManualClock()
    log, steps = reopen(clock=clock), make_episode(session="dead")
    log.append(steps[:2])
    log.sync()
    held = len(os.listdir("/proc/self/fd"))
    expected = [held + 1, held + 1, held]  # not at once: to open a file for each step takes longer than to write it
    for step, descriptors in zip(make_episode(session="lives"), expected, strict=False):
        log.append([step])
        log.sync()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        clock.advance(QUIET_S / 2)
    log.append(steps[2:])
    assert log.unsaved == 1
    log.save_ended()
    assert [step.provenance.sequence for step in reopen().transitions() if step.provenance.session == "dead"] == [
        step.provenance.sequence for step in steps
    ]


def test_a_journal_that_was_deleted_while_its_actor_was_quiet_is_not_begun_again(reopen, tmp_path):
    clock = ManualClock()
    log, steps = reopen(clock=clock), make_episode(session="quiet")
    log.append(steps[:2])
    log.sync()
    clock.advance(QUIET_S)
    log.append(make_episode(session="lives")[:1])
    log.sync()
    (journal,) = tmp_path.rglob("quiet-*.journal")
    journal.unlink()
    with pytest.raises(DataError, match=journal.name):
        log.append(steps[2:])
    assert log.last_sequences()["quiet"] == 1


def test_a_killed_learner_with_more_unsaved_episodes_than_descriptors_starts_again(reopen, tmp_path):
    log = reopen()
    for episode in range(100):
        log.append(make_episode(session="a", episode=episode, first_sequence=5 * episode))
    shutil.copytree(tmp_path / "log", tmp_path / "killed")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        with closing(EpisodeLog(tmp_path / "killed", "cafe")) as again:
            assert len(list(again.transitions())) == 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_the_disk_refuses_stays_in_its_journal_with_all_that_follow(reopen, tmp_path, monkeypatch):
    log = reopen()
    for episode in range(3):
        log.append(make_episode(episode=episode, first_sequence=5 * episode))
    refused = Path.replace

    def refuse(path, target):
        if path.name.startswith(".session-000001"):
            raise OSError(28, "No space left on device")
        return refused(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        for _ in range(2):
            with pytest.raises(DataError, match=r"session-000001.*No space left on device"):
                log.save_ended()
    assert log.synced_sequences() == {"session": 14}
    assert len(list((tmp_path / "log" / "journals").iterdir())) == 2
    assert_same_transitions(
        list(log.transitions()), [t for e in range(3) for t in make_episode(episode=e, first_sequence=5 * e)]
    )
    assert reopen().position == 15  # saved when the one before was closed
    assert not list((tmp_path / "log" / "journals").iterdir())


def test_journals_of_several_episodes_of_a_session_come_back_in_order(tmp_path):
    """As a learner leaves them that is killed before it has saved anything."""
    left = EpisodeLog(tmp_path / "left", "cafe")
    steps = [t for e in range(3) for t in make_episode(episode=e, first_sequence=5 * e)]
    for first in (0, 5, 10):
        left.append(steps[first : min(first + 5, 13)])
    shutil.copytree(tmp_path / "left", tmp_path / "log")
    left.close()
    with closing(EpisodeLog(tmp_path / "log", "cafe")) as log:
        assert (log.position, log.last_sequences()) == (13, {"session": 12})
        log.append(steps[13:])
        assert_same_transitions(list(log.transitions()), steps)
    assert len(list((tmp_path / "log" / "episodes").iterdir())) == 3


def test_a_log_of_the_version_before_goes_on_and_an_older_program_is_told(reopen, tmp_path):
    steps = make_episode(steps=6)
    reopen().append(steps[:3])
    folder = tmp_path / "log"
    reopen().close()
    (folder / "journals" / "session-000000000.journal").rename(folder / "journals" / "session.journal")
    info = folder / "log.json"
    info.write_text(info.read_text().replace('"version":2', '"version":1'))
    assert '"version":1' in info.read_text()
    log = reopen()
    assert '"version":2' in info.read_text()
    log.append(steps[3:])
    log.save_ended()
    assert_same_transitions(list(reopen().transitions()), steps)
    assert not list((folder / "journals").iterdir())
