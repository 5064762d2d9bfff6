import time

import numpy as np
import pytest

from actors.cameras.robot import PolledRobotCamera, RobotCamera
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.errors import ConfigError, RobotError
from serl_core.robots.interface import CameraImage
from serl_core.testing.conformance import check_camera
from serl_core.testing.fakes import CameraFailure, FakeRobot
from tests.actors.cameras.sources import image, until


class RunningClock(ManualClock):
    """A robot's clock in real time."""

    def __call__(self):
        return time.monotonic()


def fake_robot(clock=None):
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, clock=clock)
    robot.connect()
    return robot


def polled(robot, **options):
    return PolledRobotCamera(RobotCamera(robot, "wrist", 24, 32, **options), "w", sleep=lambda _: time.sleep(0.001))


def test_both_kinds_conform():
    robot = fake_robot(RunningClock())
    check_camera(RobotCamera(robot, "wrist", 24, 32))
    check_camera(polled(robot))


def test_in_lockstep_each_look_shows_the_present_state():
    robot = fake_robot()
    camera = RobotCamera(robot, "wrist", 24, 32, now=ManualClock(7.0))
    camera.open()
    before = camera.latest()
    robot.step(CONFIG.target_pose, 0.1)
    after = camera.latest()
    assert before.image.shape == (24, 32, 3)
    assert not np.array_equal(before.image, after.image)
    assert (before.captured_s, after.captured_s) == (7.0, 7.0)
    assert (before.stamp_s, after.stamp_s) == (0.0, 0.1)


@pytest.mark.parametrize("kind", [lambda camera: camera, lambda camera: PolledRobotCamera(camera, "w")])
def test_a_name_that_the_robot_does_not_know_is_an_error_at_once(kind):
    with pytest.raises(ConfigError, match=r"'rist'.*wrist, side_1, side_2.*CameraConfig\.device"):
        kind(RobotCamera(fake_robot(), "rist", 24, 32)).open()


@pytest.mark.parametrize(
    ("failure", "words"), [(CameraFailure.GONE, "gives no picture"), (CameraFailure.BLACK, "black")]
)
def test_in_lockstep_a_camera_that_fails_says_why_and_comes_back(failure, words):
    robot = fake_robot()
    camera = RobotCamera(robot, "wrist", 24, 32)
    robot.fail_camera("wrist", failure)
    camera.open()
    assert camera.latest() is None
    assert words in camera.problem()
    robot.fail_camera("wrist", None)
    assert camera.latest() is not None
    assert camera.problem() is None


def test_a_picture_of_another_size_than_asked_for_is_none():
    robot = fake_robot()
    robot.camera = lambda name, height, width: CameraImage(image(), 0.0)
    camera = RobotCamera(robot, "wrist", 24, 32)
    camera.open()
    assert camera.latest() is None
    assert "shape (4, 6, 3), (24, 32, 3) was asked for" in camera.problem()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (CameraFailure.GONE, "gives no picture"),
        (CameraFailure.FROZEN, "the same picture"),
        (CameraFailure.BLACK, "black"),
    ],
)
def test_in_real_time_a_camera_that_fails_keeps_its_last_frame_and_says_why(failure, words):
    robot = fake_robot(RunningClock())
    camera = polled(robot)
    camera.open()
    until(camera.latest)
    robot.fail_camera("wrist", failure)
    until(lambda: words in (camera.problem() or ""))
    last = camera.latest()
    time.sleep(0.01)
    assert camera.latest() is last
    camera.close()


def test_a_picture_that_took_long_to_come_is_as_old_as_the_question_but_in_lockstep_new():
    """In lockstep time stands still meanwhile: a picture that took half a second ended the episode as too old."""
    clock = ManualClock(5.0)

    class Slow(FakeRobot):
        def camera(self, name, height=128, width=128):
            clock.advance(0.4)
            return super().camera(name, height, width)

    camera = RobotCamera(Slow(CONFIG.reset.pose, CONFIG.target_pose), "wrist", 24, 32, now=clock)
    assert camera.read().captured_s == 5.0
    assert camera.latest().captured_s == clock() == pytest.approx(5.8)


def test_a_robot_that_is_not_there_yet_is_no_wrong_name():
    robot = fake_robot()

    def away(name, height, width):
        raise RobotError("no robot server")

    robot.camera = away
    camera = RobotCamera(robot, "wrist", 24, 32)
    camera.open()
    assert camera.latest() is None
    assert camera.problem() == "no robot server"
