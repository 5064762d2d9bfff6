from typing import NamedTuple

import numpy as np
import pytest

from actors.teleop.interface import TeleopCommand
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from examples.ram_insertion import CONFIG, TASK
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import PointMassBackend
from serl_core.robots.messages import RobotState
from serl_core.testing.conformance import check_robot, check_teleop
from serl_core.testing.fakes import FakeRobot


@pytest.mark.parametrize(
    "backend", [PointMassBackend(), MujocoBackend("ram_insertion", is_lockstep=True)], ids=["point mass", "mujoco"]
)
def test_the_robot_in_process_conforms(backend):
    service = RobotService(backend)
    service.start()
    check_robot(LocalRobot(service))
    service.close()


def test_the_fake_robot_conforms():
    check_robot(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose))


class Deaf(FakeRobot):
    """Takes every command and goes nowhere."""

    def step(self, pose, reply_after_s, gripper=None):
        return super().step(self.state().tcp_pose, reply_after_s, gripper)


class Unstoppable(FakeRobot):
    """Goes on after a stop."""

    def stop(self):
        pass


@pytest.mark.parametrize(("kind", "words"), [(Deaf, "away from it"), (Unstoppable, "did not latch")])
def test_a_robot_that_does_not_conform_is_told_why(kind, words):
    with pytest.raises(AssertionError, match=words):
        check_robot(kind(CONFIG.reset.pose, CONFIG.target_pose))


class View(NamedTuple):
    state: RobotState
    steps: int = 0


@pytest.mark.parametrize("is_demonstrating", [True, False])
def test_the_scripted_human_conforms(is_demonstrating):
    view = View(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state())
    teleop = ScriptedTeleop(TASK, view, skill=ExpertSkill(), seed=0, is_demonstrating=is_demonstrating)
    check_teleop(teleop, CONFIG.action.spec.size)


class Wild:
    """Deflects further than it may."""

    def open(self):
        pass

    def read(self):
        return TeleopCommand(np.full(6, 1.5, np.float32), is_engaged=True)

    def close(self):
        pass


def test_a_device_that_does_not_conform_is_told_why():
    with pytest.raises(AssertionError, match="leaves"):
        check_teleop(Wild(), 6)
