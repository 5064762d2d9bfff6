"""An episode on franky-sim, through environment, service and libfranka."""

import numpy as np
import pytest

from examples.reach import TASK
from robot_servers.local import LocalRobot
from serl_core.envs.arm_env import ArmEnv
from serl_core.errors import RobotFault
from serl_core.robots.messages import LeaseRequest, Mode
from serl_core.types import EndReason

DOWN = np.array([0.0, 0.0, 0.3, 0.0, 0.0, 0.0], np.float32)


def test_a_reflex_ends_the_episode_within_one_step_and_the_arm_stays_stopped_until_asked(arms, served):
    served.service.lease(LeaseRequest(action="release", owner="test", epoch=served.epoch))
    robot = LocalRobot(served.service)
    with ArmEnv(TASK, robot, seed=0) as env:
        env.reset()
        for _ in range(3):
            _, _, terminated, truncated, info = env.step(DOWN)
            assert not terminated
            assert not truncated
        arms.ask("reflex")
        _, reward, terminated, truncated, info = env.step(DOWN)
        assert (info["end"], reward, terminated, truncated) == (EndReason.ROBOT_FAULT, 0.0, False, True)
        still = served.service.state()
        assert (still.mode, still.fault) == (Mode.FAULT, "reflex")
        with pytest.raises(RobotFault, match="reflex"):
            env.reset()
        assert arms.ask("recoveries") == 0
        moved_m = np.linalg.norm(np.subtract(served.service.state().tcp_pose[:3], still.tcp_pose[:3]))
        assert moved_m < 0.002
        robot.recover()
        env.reset()
        assert env.step(DOWN)[4]["end"] is EndReason.RUNNING
