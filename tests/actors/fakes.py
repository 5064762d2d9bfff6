"""What the actor's tests run on: a human who follows a list, and an environment on the kinematic arm."""

import dataclasses

import numpy as np

from actors.teleop.interface import TeleopCommand
from examples.ram_insertion import CONFIG, TASK
from serl_core.clock import Rate
from serl_core.envs.arm_env import ArmEnv
from serl_core.testing.fakes import FakeRobot

IDLE = TeleopCommand(np.zeros(6, np.float32), is_engaged=False)


class ListedTeleop:
    """Gives the commands of a list, one a step; then nobody is at the device."""

    def __init__(self, commands=()):
        self._commands = list(commands)

    def open(self):
        pass

    def read(self):
        return self._commands.pop(0) if self._commands else IDLE

    def close(self):
        pass


def command(value, *, is_engaged=True, hands_back=False):
    return TeleopCommand(np.full(6, value, np.float32), is_engaged, hands_back)


def open_env(robot=None, **changes):
    """Return an open environment of the RAM task, with `changes` to its config, on the kinematic arm and its clock."""
    task = dataclasses.replace(TASK, config=dataclasses.replace(CONFIG, **changes))
    robot = robot or FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    rate = Rate(CONFIG.control_hz, robot.clock)
    env = ArmEnv(task, robot, rate=rate, now=robot.clock, sleep=robot.clock.advance)
    env.open()
    return env


def towards_target(observation):
    """Act like a policy that knows the way: the RAM observation begins with the pose seen from the target."""
    return np.clip(-3.0 * observation.proprio[:6], -1, 1).astype(np.float32)


def nothing(_):
    return np.zeros(6, np.float32)
