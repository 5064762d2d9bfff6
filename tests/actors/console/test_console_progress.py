"""How far a recording is, by what lies in the run's folder."""

import numpy as np

from actors.console.progress import FRAMES, Progress
from serl_core.clock import ManualClock
from serl_core.data.labelled_frames import LabelledFrames, save_labelled


def save(path, labels):
    count = len(labels)
    images = {"wrist": np.zeros((count, 8, 8, 3), np.uint8)}
    save_labelled(path, LabelledFrames("task", images, np.array(labels), np.arange(count), np.zeros((count, 7))))


def test_frames_with_success_are_counted_and_not_their_files(tmp_path):
    clock = ManualClock(0.0)
    progress = Progress(tmp_path, clock)
    assert progress.view()["classifier"] == {"count": 0, "goal": 200}
    save(tmp_path / FRAMES / "frames-0000.safetensors", [True, False, True])
    save(tmp_path / FRAMES / "frames-0001.safetensors", [False])
    assert progress.view()["classifier"]["count"] == 0  # counted once a second at most
    clock.advance(1.0)
    assert progress.view()["classifier"] == {"count": 2, "goal": 200}


def test_a_file_that_is_none_of_them_counts_nothing(tmp_path):
    path = tmp_path / FRAMES / "frames-0000.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    assert Progress(tmp_path).view()["classifier"]["count"] == 0


def test_demonstrations_are_counted_by_their_files(tmp_path):
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "demonstration-0000.safetensors").write_bytes(b"")
    assert Progress(tmp_path).view()["demonstrations"] == {"count": 1, "goal": 20}
