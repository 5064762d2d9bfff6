"""The fake robot's cameras; its motion is checked by the conformance suite."""

import numpy as np
import pytest

from serl_core.errors import RobotError
from serl_core.testing.fakes import CameraFailure, FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
TARGET = (0.5, 0.0, 0.06, *DOWN)


@pytest.fixture
def robot():
    robot = FakeRobot((0.5, 0.0, 0.12, *DOWN), TARGET)
    robot.connect()
    return robot


def test_a_picture_depends_on_the_camera_and_the_pose_alone(robot):
    first = robot.camera("wrist").image
    np.testing.assert_array_equal(first, robot.camera("wrist").image)
    assert (first != robot.camera("side_1").image).any()
    robot.step((0.52, 0.01, 0.1, *DOWN), 0.1)
    assert (first != robot.camera("wrist").image).any()
    assert robot.camera("wrist", 48, 96).image.shape == (48, 96, 3)
    assert robot.camera("wrist").stamp_s == robot.clock()


def test_the_square_is_where_the_tool_is(robot):
    robot.move((0.55, -0.05, 0.06, *DOWN))
    rows, columns = np.nonzero(robot.camera("wrist", 100, 100).image.min(axis=-1) >= 120)
    assert (rows.mean(), columns.mean()) == pytest.approx((69.5, 29.5))


def test_an_unknown_camera_names_those_there_are(robot):
    with pytest.raises(RobotError, match="wrist, side_1, side_2") as refused:
        robot.camera("front")
    assert refused.value.status == 404
    with pytest.raises(RobotError, match="has none"):
        FakeRobot(TARGET, TARGET, cameras=()).camera("wrist")


def test_a_camera_fails_as_told_until_it_is_mended(robot):
    before = robot.camera("wrist")
    robot.fail_camera("wrist", CameraFailure.FROZEN)
    robot.step((0.53, 0.0, 0.1, *DOWN), 0.1)
    frozen = robot.camera("wrist")
    np.testing.assert_array_equal(frozen.image, before.image)
    assert frozen.stamp_s == before.stamp_s < robot.camera("side_1").stamp_s
    robot.fail_camera("wrist", CameraFailure.BLACK)
    assert robot.camera("wrist").image.max() == 0
    assert robot.camera("wrist").stamp_s == robot.clock()
    robot.fail_camera("wrist", CameraFailure.GONE)
    with pytest.raises(RobotError, match="no picture") as refused:
        robot.camera("wrist")
    assert refused.value.status == 503
    robot.fail_camera("wrist", None)
    assert (robot.camera("wrist").image != before.image).any()
