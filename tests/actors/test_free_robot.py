import pytest

from actors.free_robot import free_robot
from examples.ram_insertion import CONFIG
from serl_core.errors import RobotError
from serl_core.operator.messages import Recover, ResumeRobot
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot

RECOVER, RESUME = Recover(operator="ann", cause="reflex"), ResumeRobot(operator="ann")


@pytest.fixture
def robot():
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    robot.connect()
    return robot


@pytest.mark.parametrize(("mode", "request_"), [(Mode.FAULT, RECOVER), (Mode.STOPPED, RESUME)])
def test_a_fault_is_recovered_and_a_stop_resumed(robot, mode, request_):
    robot.fail(mode, "reflex")
    assert free_robot(robot, request_).level == "info"
    assert robot.state().mode is Mode.HOLD


@pytest.mark.parametrize(
    ("mode", "cause", "request_"),
    [
        (Mode.FAULT, "joint_limit", RECOVER),
        (Mode.STOPPED, "reflex", RECOVER),
        (Mode.FAULT, "reflex", RESUME),
    ],
    ids=["a fault that nobody has seen", "a stop is no fault", "a fault is no stop"],
)
def test_nothing_else_is_cleared(robot, mode, cause, request_):
    robot.fail(mode, cause)
    assert free_robot(robot, request_).level == "warning"
    assert robot.state().mode is mode


def test_where_nothing_is_wrong_nothing_happens(robot):
    for request in (RECOVER, RESUME):
        assert "there is nothing to re" in free_robot(robot, request).text
    assert robot.calls == ["connect"]


def test_a_robot_that_refuses_is_told(robot, monkeypatch):
    def refuse():
        raise RobotError("the server is gone")

    robot.fail(Mode.FAULT, "reflex")
    monkeypatch.setattr(robot, "recover", refuse)
    notice = free_robot(robot, RECOVER)
    assert (notice.level, notice.text) == ("error", "the robot is not freed: the server is gone")
