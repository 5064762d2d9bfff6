import threading
from pathlib import Path

from learners.checkpoint_writer import CheckpointWriter
from learners.trainer import Snapshot
from serl_core.errors import DataError


class Slow:
    """Checkpoints that wait until they are let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.saved: list[int] = []
        self.is_full = False

    def save(self, _: object, facts: dict[str, int]) -> Path:
        self.begun.set()
        assert self.gate.wait(60.0)
        if self.is_full:
            raise DataError("no room")
        self.saved.append(facts["trained_env_steps"])
        path = self.folder / str(len(self.saved))
        path.mkdir()
        (path / "arrays").write_bytes(bytes(100))
        return path


def snapshot(steps: int) -> Snapshot:
    return Snapshot({}, {"trained_env_steps": steps})


def test_nobody_waits_and_of_those_that_wait_the_newest_is_written(tmp_path):
    slow = Slow(tmp_path)
    writer = CheckpointWriter(slow)
    with writer.in_background():
        writer.put(snapshot(1))
        assert slow.begun.wait(60.0)
        for steps in (2, 3, 4):
            writer.put(snapshot(steps))
        assert slow.saved == []
        slow.gate.set()
    assert slow.saved == [1, 4]  # all is written when it is left
    assert [written.trained_env_steps for written in writer.results()] == [1, 4]
    assert writer.results() == []
    assert writer.counters()["ckpt_ok"] == 2
    assert writer.counters()["ckpt_bytes"] == 100


def test_without_its_thread_it_writes_at_once(tmp_path):
    slow = Slow(tmp_path)
    slow.gate.set()
    writer = CheckpointWriter(slow)
    writer.put(snapshot(7))
    assert slow.saved == [7]


def test_a_refusal_is_counted_and_told(tmp_path):
    slow = Slow(tmp_path)
    slow.gate.set()
    slow.is_full = True
    writer = CheckpointWriter(slow)
    with writer.in_background():
        writer.put(snapshot(7))
    (written,) = writer.results()
    assert str(written.error) == "no room"
    assert (writer.counters()["ckpt_ok"], writer.counters()["ckpt_failed"]) == (0, 1)
