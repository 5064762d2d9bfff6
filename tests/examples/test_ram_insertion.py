import dataclasses

import msgspec
import numpy as np
import pytest

from actors.actor import ActorLoop
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from examples.ram_insertion import CONFIG, SOCKET_DEPTH_M, TARGET_POSE, TASK, expert
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.scenes import RAM_TARGET_POSE, SCENES, SOCKET_FLOOR_M, SOCKET_RIM_M
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import load_task
from serl_core.geometry import euler_to_quaternion
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason

TRIALS = 20


@pytest.fixture
def env():
    service = RobotService(MujocoBackend("ram_insertion", seed=0, is_lockstep=True))
    service.start()
    with ArmEnv(TASK, LocalRobot(service), seed=0) as env:
        yield env
    service.close()


def demonstrate(env, skill, trials):
    teleop = ScriptedTeleop(TASK, env, skill=skill, seed=0, is_demonstrating=True)
    loop = ActorLoop(env, lambda _: np.zeros(6, np.float32), teleop, session="test")
    lengths = []
    while len(lengths) < trials:
        transition = loop.step()
        if transition.end is not EndReason.RUNNING:
            lengths.append(env.steps if transition.end is EndReason.SUCCESS else None)
    return lengths


def state_at(x_mm=0.0, y_mm=0.0, height_mm=30.0, yaw=0.0):
    """Return a state with the stick's lower end `height_mm` above the rim."""
    x, y, z = TARGET_POSE[:3]
    turn = euler_to_quaternion(np.array([np.pi, 0.0, yaw]))
    pose = (x + x_mm / 1e3, y + y_mm / 1e3, z + SOCKET_DEPTH_M + height_mm / 1e3, *turn.tolist())
    return FakeRobot(pose, TARGET_POSE).state()


def test_the_task_is_found_by_its_name():
    assert load_task("ram_insertion").config == CONFIG


def test_the_numbers_are_those_of_the_simulators_scene():
    assert pytest.approx(RAM_TARGET_POSE) == TARGET_POSE
    assert pytest.approx(SOCKET_RIM_M - SOCKET_FLOOR_M) == SOCKET_DEPTH_M
    assert CONFIG.scene in SCENES


def test_the_start_is_randomised_as_in_the_paper():
    assert CONFIG.reset.randomise_m == (0.04, 0.04, 0.0)
    assert np.rad2deg(CONFIG.reset.randomise_rz_rad) == pytest.approx(6.0)
    assert CONFIG.time_limit_steps == 100


def test_the_expert_looks_at_the_state_alone():
    """A pure function: the same state gives the same action, and nothing is kept in between."""
    state = state_at(x_mm=10.0)
    first = expert(state)
    expert(state_at(y_mm=-20.0))
    np.testing.assert_array_equal(expert(state), first)


def test_the_expert_moves_towards_the_socket_across_and_about_the_vertical():
    # Tool frame: x as the base's, y and z against the base's.
    assert expert(state_at(x_mm=10.0))[0] < 0
    assert expert(state_at(y_mm=10.0))[1] > 0
    assert expert(state_at(yaw=0.1))[5] > 0
    assert expert(state_at(yaw=-0.1))[5] < 0


def test_the_expert_waits_above_the_rim_until_it_is_aligned():
    assert expert(state_at(x_mm=5.0, height_mm=3.0))[2] == 0.0
    assert expert(state_at(yaw=0.05, height_mm=3.0))[2] == 0.0
    assert expert(state_at(height_mm=3.0))[2] > 0.0


def test_the_expert_lifts_off_the_rim_when_it_is_pushed_back():
    pushed = msgspec.structs.replace(state_at(height_mm=0.0), tcp_wrench=(0.0, 0.0, 12.0, 0.0, 0.0, 0.0))
    assert expert(pushed)[2] < 0.0


@pytest.mark.parametrize(("x_mm", "y_mm"), [(0.0, 20.0), (20.0, -15.0)])
def test_the_expert_pulls_a_stick_up_that_was_pushed_down_beside_the_socket(env, x_mm, y_mm):
    x, y, z, *rotation = CONFIG.reset.pose
    env.reset(options={"start_pose": (x + x_mm / 1e3, y + y_mm / 1e3, z, *rotation)})
    for _ in range(20):
        env.step(np.array([0, 0, 0.5, 0, 0, 0], np.float32))
    assert env.robot.state().tcp_pose[2] < TARGET_POSE[2] - 0.005
    assert any(env.step(expert(env.robot.state()))[-1]["is_success"] for _ in range(25))


def test_the_expert_inserts_at_least_90_percent_within_the_time_limit_in_about_human_time(env):
    lengths = demonstrate(env, ExpertSkill(), TRIALS)
    succeeded = [length for length in lengths if length is not None]
    assert len(succeeded) >= 0.9 * TRIALS
    assert 30 <= np.mean(succeeded) <= 50  # 3 to 5 s


def test_a_perfect_expert_is_faster_than_a_human(env):
    lengths = demonstrate(env, ExpertSkill(speed=1.0, noise=0.0), 5)
    assert max(lengths) < 30


def test_a_stick_that_is_off_by_2_mm_is_not_inserted(env):
    """Pressing beside the socket must not count as success."""
    x, y, z, *rotation = CONFIG.reset.pose
    env.reset(options={"start_pose": (x, y + 0.002, z, *rotation)})
    for _ in range(25):
        *_, info = env.step(np.array([0, 0, 0.5, 0, 0, 0], np.float32))
        assert not info["is_success"]


def test_the_simulated_episode_is_the_same_to_the_bit_for_the_same_seed():
    def run():
        service = RobotService(MujocoBackend("ram_insertion", seed=3, is_lockstep=True))
        service.start()
        short = dataclasses.replace(TASK, config=dataclasses.replace(CONFIG, time_limit_steps=8))
        with ArmEnv(short, LocalRobot(service), seed=3) as env:
            teleop = ScriptedTeleop(short, env, skill=ExpertSkill(), seed=3, is_demonstrating=True)
            loop = ActorLoop(env, lambda _: np.zeros(6, np.float32), teleop, session="test")
            frames = [loop.step().next_observation.proprio for _ in range(20)]
        service.close()
        return np.array(frames)

    np.testing.assert_array_equal(run(), run())
