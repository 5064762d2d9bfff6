import importlib
import os
from fractions import Fraction

import av
import numpy as np
import pytest

from actors.video import TrialVideo
from actors.video_frame import RED, draw
from serl_core.errors import ConfigError, DataError
from tests.actors.blank_frame import FRAME


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], facts


def write(path, frames, fps=10.0):
    with TrialVideo(path, fps=fps) as video:
        for frame in frames:
            video.add(frame)


def test_a_video_has_every_frame_as_it_was_drawn_at_the_control_rate(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = (20, 200, 60)
    frames = [FRAME._replace(images={"wrist": image}, step=i, is_intervention=i == 2) for i in range(4)]
    write(tmp_path / "new folder" / "trial.mp4", frames)
    pictures, facts = decode(tmp_path / "new folder" / "trial.mp4")
    assert facts == ("h264", "yuv420p", 10)
    assert len(pictures) == 4
    for picture, frame in zip(pictures, frames, strict=True):
        assert picture.shape == draw(frame).shape
        assert np.abs(picture.astype(int) - draw(frame)).mean() < 3.0
    np.testing.assert_allclose(pictures[2][2, 2].astype(int), RED, atol=6)
    np.testing.assert_allclose(pictures[3][2, 2].astype(int), (255, 255, 255), atol=6)
    assert os.listdir(tmp_path / "new folder") == ["trial.mp4"]


@pytest.mark.parametrize("fps", [12.5, 29.97, 240.0])
def test_a_rate_need_not_be_a_whole_number(tmp_path, fps):
    write(tmp_path / "trial.mp4", [FRAME] * 3, fps=fps)
    assert decode(tmp_path / "trial.mp4")[1][2] == Fraction(str(fps))


@pytest.mark.parametrize("fps", [10.0, 29.97])
def test_without_the_h264_encoder_the_video_is_mpeg4(tmp_path, monkeypatch, fps):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    write(tmp_path / "trial.mp4", [FRAME] * 3, fps=fps)
    pictures, facts = decode(tmp_path / "trial.mp4")
    assert (len(pictures), *facts) == (3, "mpeg4", "yuv420p", Fraction(str(fps)))


def test_a_video_has_no_name_before_it_is_whole(tmp_path):
    video = TrialVideo(tmp_path / "trial.mp4", fps=10.0)
    video.add(FRAME)
    assert not (tmp_path / "trial.mp4").exists()
    video.close()
    video.close()
    assert len(decode(tmp_path / "trial.mp4")[0]) == 1


def test_a_trial_that_breaks_off_leaves_no_file_and_the_earlier_one_stays(tmp_path):
    write(tmp_path / "trial.mp4", [FRAME] * 3)

    def broken_off():
        yield FRAME
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        write(tmp_path / "trial.mp4", broken_off())
    assert os.listdir(tmp_path) == ["trial.mp4"]
    assert len(decode(tmp_path / "trial.mp4")[0]) == 3


def test_a_trial_without_frames_leaves_no_file(tmp_path):
    write(tmp_path / "trial.mp4", [])
    assert os.listdir(tmp_path) == []


def test_frames_keep_their_size(tmp_path):
    with TrialVideo(tmp_path / "trial.mp4", fps=10.0) as video:
        video.add(FRAME)
        with pytest.raises(ValueError, match=r"frame 1 is 640 x .* the first 640 x .* must keep their sizes"):
            video.add(FRAME._replace(images={"wrist": np.zeros((64, 64, 3), np.uint8)}))
    assert os.listdir(tmp_path) == []


def test_a_closed_video_takes_no_frame(tmp_path):
    write(tmp_path / "trial.mp4", [FRAME] * 3)
    video = TrialVideo(tmp_path / "trial.mp4", fps=10.0)
    video.close()
    with pytest.raises(ValueError, match="the video is closed"):
        video.add(FRAME)
    assert len(decode(tmp_path / "trial.mp4")[0]) == 3


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*trial\.mp4: .*choose another folder"):
        write(tmp_path / "file" / "trial.mp4", [FRAME])


def test_a_name_that_is_taken_by_a_folder_is_told_and_nothing_else_is_left(tmp_path):
    (tmp_path / "trial.mp4").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*trial\.mp4"):
        write(tmp_path / "trial.mp4", [FRAME])
    assert os.listdir(tmp_path) == ["trial.mp4"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_told_and_leaves_no_file(tmp_path):
    (tmp_path / ".trial.mp4.partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left on device; make room"):
        write(tmp_path / "trial.mp4", [FRAME] * 3)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [0.0, 0.5, 241.0, float("nan"), float("inf")])
def test_a_rate_that_no_robot_has_is_refused(tmp_path, fps):
    with pytest.raises(ConfigError, match="must be 1 to 240 frames a second, got"):
        TrialVideo(tmp_path / "trial.mp4", fps=fps)


@pytest.mark.parametrize("missing", ["av", "cv2"])
def test_a_missing_package_is_told_before_the_trial(tmp_path, monkeypatch, missing):
    def without(name):
        if name == missing:
            raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigError, match=rf"package '{missing}', which is missing: pip install 'serl\[vision\]'"):
        TrialVideo(tmp_path / "trial.mp4", fps=10.0)
