import sys
import time

import cv2
import numpy as np
import pytest

from actors.cameras.uvc import UvcCamera, UvcSource
from serl_core.errors import CameraFault, ConfigError
from serl_core.testing.conformance import check_camera
from tests.actors.cameras.sources import until

FRAMES, HZ = 12, 25.0


@pytest.fixture
def video(tmp_path):
    """A film of 48 rows x 64 columns: red on its left, on its right a grey that grows lighter."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), HZ, (64, 48))
    for number in range(FRAMES):
        picture = np.full((48, 64, 3), 60 + 10 * number, np.uint8)
        picture[:, :32] = (0, 0, 200)  # blue, green, red
        writer.write(picture)
    writer.release()
    return str(path)


def quickly(_):
    time.sleep(0.001)


def test_a_video_file_conforms(video):
    check_camera(UvcCamera("film", video, sleep=lambda _: time.sleep(0.006)))


def test_a_video_file_begins_again_after_its_end(video):
    camera = UvcCamera("film", video, sleep=quickly)
    camera.open()
    until(lambda: "gives no more pictures" in (camera.problem() or ""))
    last = camera.latest()
    until(lambda: camera.latest().image[:, 40:56].mean() < last.image[:, 40:56].mean())
    camera.close()


def test_a_file_plays_each_picture_in_its_colours_at_its_own_rate_and_ends_like_an_unplugged_camera(video):
    pauses = []
    source = UvcSource(video, now=lambda: 3.0, sleep=pauses.append)
    source.open()
    frames = [source.read() for _ in range(FRAMES)]
    with pytest.raises(CameraFault, match=r"film\.avi gives no more pictures"):
        source.read()
    source.close()
    source.close()
    assert pauses == [1.0 / HZ] * (FRAMES + 1)
    for number, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert frame.captured_s == 3.0
        assert np.abs(frame.image[:, 8:24].mean(axis=(0, 1)) - (200, 0, 0)).max() < 8
        assert np.abs(frame.image[:, 40:56].mean(axis=(0, 1)) - (60 + 10 * number)).max() < 8


def test_a_device_that_is_not_there_is_told_and_tried_again(tmp_path):
    camera = UvcCamera("film", str(tmp_path / "none.avi"), sleep=quickly)
    camera.open()
    until(lambda: "cannot be opened" in camera.problem())
    assert camera.latest() is None
    camera.close()


class Capture:
    """What `cv2.VideoCapture` does, for a device."""

    def __init__(self, device):
        self.device, self.settings = device, {}

    def isOpened(self):
        return True

    def set(self, what, value):
        self.settings[what] = value

    def grab(self):
        return True

    def retrieve(self):
        return True, np.full((48, 64, 3), 90, np.uint8)

    def release(self):
        pass


@pytest.mark.parametrize(("device", "opened"), [("2", 2), ("/dev/video2", "/dev/video2")])
def test_a_number_is_a_devices_number_and_the_size_is_asked_for(device, opened, monkeypatch):
    made = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda device: made.append(Capture(device)) or made[-1])
    pauses = []
    source = UvcSource(device, size=(48, 64), sleep=pauses.append)
    source.open()
    source.read()
    assert made[0].device == opened
    assert made[0].settings == {cv2.CAP_PROP_FRAME_HEIGHT: 48, cv2.CAP_PROP_FRAME_WIDTH: 64}
    assert pauses == [0.0]


def test_without_opencv_the_error_names_the_extra(monkeypatch, video):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"UVC cameras need OpenCV.*serl\[vision\]"):
        UvcCamera("film", video).open()
