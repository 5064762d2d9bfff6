"""What the tools do to a device, rows S1 to S4 of the fault table show; here: that each does what it is called."""

import numpy as np
import pytest

from actors.cameras.interface import Frame, flaw
from actors.faulty_devices import CameraFailure, FaultyCamera, FaultyPuck, PuckFailure
from actors.teleop.puck_reading import PuckReading


class Counting:
    """A camera and a device whose every answer is another."""

    def __init__(self):
        self.count = 0

    def open(self):
        pass

    def read(self, timeout_s=None):
        self.count += 1
        if timeout_s is None:
            return Frame(np.full((4, 6, 3), 10 * self.count, np.uint8), self.count, self.count)
        return PuckReading(moved_s=self.count)


@pytest.mark.parametrize(
    ("failure", "shape", "is_flawed", "has_same_bytes", "stamp_s"),
    [
        (None, (4, 6, 3), False, False, 2),
        (CameraFailure.EMPTY, (0, 0, 3), True, False, 2),
        (CameraFailure.SHAPE, (2, 6, 3), False, False, 2),
        (CameraFailure.DARK, (4, 6, 3), True, False, 2),
        (CameraFailure.SAME_BYTES, (4, 6, 3), False, True, None),
        (CameraFailure.SAME_BYTES_NEW_STAMP, (4, 6, 3), False, True, 2),
        (CameraFailure.SAME_STAMP, (4, 6, 3), False, False, 1),
    ],
)
def test_a_camera_s_pictures_become_what_its_failure_says(failure, shape, is_flawed, has_same_bytes, stamp_s):
    camera = FaultyCamera(Counting())
    before = camera.read()
    camera.failure = failure
    after = camera.read()
    assert after.image.shape == shape
    assert (flaw(after.image) is not None) == is_flawed
    assert np.array_equal(after.image, before.image) == has_same_bytes
    assert (after.captured_s, after.stamp_s) == (2, stamp_s)


def test_a_camera_that_refuses_or_raises_does_so_until_it_is_mended():
    camera = FaultyCamera(Counting())
    for failure, call in ((CameraFailure.REFUSES, camera.open), (CameraFailure.RAISES, camera.read)):
        camera.failure = failure
        with pytest.raises(OSError, match="device"):
            call()
        camera.failure = None
        call()


def test_a_silent_device_repeats_its_last_report():
    device = FaultyPuck(Counting())
    last = device.read(0.0)
    device.failure = PuckFailure.SILENT
    assert device.read(0.0) is last
    device.failure = None
    assert device.read(0.0).moved_s == 2
