from itertools import pairwise

import numpy as np
import pytest

from actors.classifier_data import FrameRecorder, scripted_episode, truth_label
from actors.classifier_script import near_miss_script, near_start, success_script
from examples.ram_insertion import CONFIG, SOCKET_DEPTH_M, TASK
from robot_servers.limits import SafetyLimits
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.envs.vision import Sight
from serl_core.geometry import distance
from serl_core.testing.fakes import FakeRobot


class NoVision:
    """The scripts are tested without pictures."""

    success_threshold = None

    def open(self, robot):
        pass

    def close(self):
        pass

    def look(self):
        return Sight({"wrist": np.zeros((16, 16, 3), np.uint8)})


@pytest.fixture(scope="module")
def episodes():
    """Return scripted episodes in the simulator: six successes, eight near misses."""
    service = RobotService(MujocoBackend("ram_insertion", seed=0, is_lockstep=True), SafetyLimits())
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    episode = scripted_episode(TASK, FrameRecorder(TASK, robot, NoVision(), truth_label, is_lockstep=True), seed=1)
    yield [episode(True) for _ in range(6)], [episode(False) for _ in range(8)]
    robot.close()
    service.close()


def height_m(frames):
    return frames.tcp_pose[:, 2] - CONFIG.target_pose[2]


def test_successes_are_seen_in_several_poses_and_undone_again(episodes):
    successes, _ = episodes
    done = [frames for frames in successes if frames.is_success.any()]
    assert len(done) >= 3
    for frames in done:
        assert not frames.is_success[0]
        assert not frames.is_success[-1]
        poses = frames.tcp_pose[frames.is_success]
        assert len(poses) >= 4
        assert max(np.linalg.norm(a[:3] - b[:3]) for a, b in pairwise(poses)) > 2e-4


def test_near_misses_come_close_and_are_held_up(episodes):
    _, misses = episodes
    assert not any(frames.is_success.any() for frames in misses)
    heights = np.concatenate([height_m(frames) for frames in misses])
    is_inside = (heights > 0.0015) & (heights < SOCKET_DEPTH_M - 0.001)
    is_on_the_rim = np.abs(heights - SOCKET_DEPTH_M) < 0.0015
    assert is_inside.sum() >= 3
    assert is_on_the_rim.sum() >= 5
    assert (heights > SOCKET_DEPTH_M + 0.002).sum() >= 5


def test_starts_are_near_the_task_s_own():
    random = np.random.default_rng(0)
    starts = np.array([near_start(TASK, random) for _ in range(200)])
    reset = np.array(CONFIG.reset.pose)
    assert (np.abs(starts[:, :2] - reset[:2]) <= 0.3 * 0.04 + 1e-9).all()
    assert (starts[:, 2] <= reset[2]).all()
    assert (starts[:, 2] > CONFIG.target_pose[2]).all()


@pytest.mark.parametrize("script", [success_script, near_miss_script])
def test_no_target_is_further_than_one_step_of_the_policy(script):
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    robot.connect()
    for target in script(TASK, robot.state, np.random.default_rng(0)):
        apart_m, apart_rad = distance(np.array(robot.state().tcp_pose), target)
        assert apart_m <= np.sqrt(3) * CONFIG.action.translation_m + 1e-9
        assert apart_rad <= np.sqrt(3) * CONFIG.action.rotation_rad + 1e-9
        robot.step(tuple(target.tolist()), 0.1)
