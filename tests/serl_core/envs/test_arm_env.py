import dataclasses

import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings

from examples.ram_insertion import CONFIG, TASK
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.clock import Rate
from serl_core.config import ActionConfig, ObservationConfig, PoseFrame
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.frames import action_to_target
from serl_core.envs.task import Task
from serl_core.errors import ConfigError, RobotAway, RobotError
from serl_core.image_config import CameraConfig
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason
from tests.serl_core.strategies import vectors

STILL = np.zeros(6, np.float32)
DOWNWARDS = np.array([0, 0, 1, 0, 0, 0], np.float32)


def fake_robot(**options):
    return FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, **options)


def opened(robot=None, task=TASK, **options):
    env = ArmEnv(task, robot or fake_robot(), **options)
    env.open()
    return env


def changed(**values):
    return Task(config=dataclasses.replace(CONFIG, **values))


def test_gymnasium_checks_the_environment():
    with ArmEnv(TASK, fake_robot()) as env:
        check_env(env, skip_render_check=True)


def test_gymnasium_checks_the_environment_on_the_simulated_arm():
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    try:
        with ArmEnv(TASK, LocalRobot(service)) as env:
            check_env(env, skip_render_check=True)
    finally:
        service.close()


def test_the_same_seed_gives_the_same_episode_on_the_simulated_arm():
    """The seed did not reach the scene of a task that resets by moving, so Gymnasium's checker failed too."""
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    try:
        with ArmEnv(TASK, LocalRobot(service)) as env:
            first, again, other = (env.reset(seed=seed)[0]["proprio"] for seed in (7, 7, 8))
    finally:
        service.close()
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert np.abs(first - other).max() > 1e-3


def test_the_constructor_touches_no_hardware():
    """Fault 28 of earlier systems: constructors talked to the robot."""
    robot = fake_robot()
    env = ArmEnv(TASK, robot)
    assert robot.calls == []
    with env:
        assert robot.calls == ["connect"]
    assert robot.calls == ["connect", "close"]


@settings(max_examples=30)
@given(vectors(6))
def test_the_executed_action_is_the_action_where_no_limit_is_near(action):
    env = opened()
    env.reset(options={"start_pose": CONFIG.reset.pose})
    *_, info = env.step(action.astype(np.float32))
    np.testing.assert_allclose(info["executed_action"], action, atol=1e-6)


@settings(max_examples=30)
@given(vectors(6))
def test_at_the_edge_the_executed_action_is_what_the_arm_was_really_sent(action):
    edge = (*CONFIG.box.low_m, 1.0, 0.0, 0.0, 0.0)
    robot = fake_robot()
    env = opened(robot)
    env.reset(options={"start_pose": edge})
    *_, info = env.step(action.astype(np.float32))
    sent = np.array(env.state.reference_pose)
    assert CONFIG.box.contains(tuple(sent[:3].tolist()))
    mapped_back = action_to_target(info["executed_action"].astype(np.float64), np.array(edge), CONFIG.action)
    np.testing.assert_allclose(mapped_back[:3], sent[:3], atol=1e-8)
    assert abs(mapped_back[3:] @ sent[3:]) == pytest.approx(1.0, abs=1e-9)


def test_targets_start_from_the_measured_pose_so_they_do_not_run_away_from_a_blocked_arm():
    robot = fake_robot(gain=0.0)
    env = opened(robot)
    env.reset(options={"start_pose": CONFIG.reset.pose})
    for _ in range(5):
        env.step(DOWNWARDS)
    assert env.state.reference_pose[2] == pytest.approx(CONFIG.reset.pose[2] - CONFIG.action.translation_m)


def test_a_time_limit_truncates():
    env = opened(task=changed(time_limit_steps=3))
    env.reset()
    results = [env.step(STILL) for _ in range(3)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in results] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    assert results[-1][4]["end"] is EndReason.TIME_LIMIT


def test_success_terminates_with_a_reward_of_one():
    env = opened()
    env.reset(options={"start_pose": CONFIG.target_pose})
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


@pytest.mark.parametrize(
    ("mode", "end"), [(Mode.STOPPED, EndReason.OPERATOR_STOP), (Mode.FAULT, EndReason.ROBOT_FAULT)]
)
def test_a_stop_or_a_fault_truncates_without_any_recovery(mode, end):
    """Fault 21 of earlier systems: errors were cleared before each command, so a reflex was undone and unseen."""
    robot = fake_robot()
    env = opened(robot)
    env.reset(options={"start_pose": CONFIG.target_pose})  # where a step would be a success
    robot.fail(mode, "reflex")
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["end"]) == (0.0, False, True, end)
    assert env.state.fault == "reflex"
    assert not {"recover", "resume"} & set(robot.calls)


def test_a_refused_target_makes_the_arm_stay_and_the_episode_go_on():
    class Choosy(FakeRobot):
        def step(self, pose, reply_after_s, gripper=None):
            if pose[2] < self.state().tcp_pose[2]:
                raise RobotError("joint 4 would be at its limit", status=422)
            return super().step(pose, reply_after_s, gripper)

    robot = Choosy(CONFIG.reset.pose, CONFIG.target_pose)
    env = opened(robot)
    env.reset()
    before, clock = env.state.tcp_pose, robot.clock()
    _, _, terminated, truncated, info = env.step(DOWNWARDS)
    assert not terminated
    assert not truncated
    assert info["end"] is EndReason.RUNNING
    np.testing.assert_allclose(env.state.tcp_pose, before, atol=1e-12)
    assert robot.clock() == pytest.approx(clock + 0.1)


class Drifting(FakeRobot):
    """An arm in real time that has moved on since the last tick; near its limit it is refused the way back."""

    refused = 0
    refuses_all = False

    def step(self, pose, reply_after_s, gripper=None):
        if self.refuses_all or pose[2] != self._pose[2]:
            self.refused += 1
            raise RobotError("joint 4 would be at its limit", status=422)
        return super().step(pose, reply_after_s, gripper)


def drifting():
    robot = Drifting(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=False)
    env = opened(robot, rate=Rate(10.0, robot.clock), sleep=robot.clock.advance)
    env.reset()
    robot.clock.advance(0.03)
    x, y, z, *turn = env.state.tcp_pose
    robot._pose = (x, y, z - 0.001, *turn)
    return env, robot


def test_after_a_refusal_the_arm_is_told_to_stay_where_it_is_now():
    """It was told to go back to where it had been at the last tick: refused again, that ended the actor."""
    env, robot = drifting()
    *_, info = env.step(DOWNWARDS)
    assert info["end"] is EndReason.RUNNING
    assert robot.refused == 1
    assert env.state.reference_pose == robot._pose
    assert robot.clock() == pytest.approx(0.1)


def test_when_even_staying_is_refused_the_step_ends_at_its_tick_and_the_watchdog_holds():
    env, robot = drifting()
    robot.refuses_all = True
    *_, info = env.step(DOWNWARDS)
    assert info["end"] is EndReason.RUNNING
    assert robot.refused == 2
    assert env.state.tcp_pose == robot._pose
    assert env.state.stamp_s == robot.clock() == pytest.approx(0.1)


def test_in_lockstep_nobody_waits_for_a_watchdog():
    robot = Drifting(CONFIG.reset.pose, CONFIG.target_pose)
    env = opened(robot, sleep=lambda _: pytest.fail("it slept"))
    env.reset()
    robot.refuses_all = True
    assert env.step(DOWNWARDS)[4]["end"] is EndReason.RUNNING


def test_a_fault_that_comes_with_the_refusal_ends_the_episode():
    class Reflex(Drifting):
        def step(self, pose, reply_after_s, gripper=None):
            try:
                return super().step(pose, reply_after_s, gripper)
            finally:
                self.fail(Mode.FAULT, "reflex")

    robot = Reflex(CONFIG.reset.pose, CONFIG.target_pose)
    env = opened(robot)
    env.reset()
    assert env.step(DOWNWARDS)[4]["end"] is EndReason.ROBOT_FAULT


def test_any_other_refusal_is_the_callers():
    class Gone(FakeRobot):
        def step(self, pose, reply_after_s, gripper=None):
            raise RobotError("no lease", status=409)

    env = opened(Gone(CONFIG.reset.pose, CONFIG.target_pose))
    env.reset()
    with pytest.raises(RobotError, match="no lease"):
        env.step(DOWNWARDS)


def test_a_robot_that_cannot_be_read_after_a_fault_keeps_its_last_state():
    class Gone(FakeRobot):
        def state(self):
            if self._fault is not None:
                raise RobotError("no answer")
            return super().state()

    robot = Gone(CONFIG.reset.pose, CONFIG.target_pose)
    env = opened(robot)
    env.reset()
    before = env.state
    robot.fail(Mode.FAULT, "reflex")
    *_, info = env.step(STILL)
    assert info["end"] is EndReason.ROBOT_FAULT
    assert env.state == before


def test_in_lockstep_every_step_is_exactly_one_period():
    robot = fake_robot()
    env = opened(robot)
    env.reset()
    for _ in range(3):
        env.step(STILL)
    assert robot.replies_after_s == [0.1, 0.1, 0.1]
    assert env.take_lateness_s() == []


def test_in_real_time_the_reply_comes_at_the_tick_whatever_the_work_in_between_takes():
    """Fault 26 of earlier systems: the period was counted before the observation and the policy."""
    robot = fake_robot(is_lockstep=False)
    env = opened(robot, rate=Rate(10.0, robot.clock))
    env.reset()
    for k, work_s in enumerate([0.03, 0.08, 0.0, 0.05], start=1):
        robot.clock.advance(work_s)
        env.step(STILL)
        assert robot.clock() == pytest.approx(0.1 * k)
    assert env.late_ticks == 0


def test_a_late_tick_is_counted_and_its_step_ends_at_the_next_one():
    robot = fake_robot(is_lockstep=False)
    env = opened(robot, rate=Rate(10.0, robot.clock))
    env.reset()
    robot.clock.advance(0.13)
    env.step(STILL)
    assert robot.clock() == pytest.approx(0.2)
    assert env.late_ticks == 1
    assert env.take_lateness_s() == pytest.approx([0.03, 0.0])
    assert env.take_lateness_s() == []


def test_the_same_seed_gives_the_same_start_poses():
    def starts(env, **options):
        env.reset(**options)
        first = env.state.tcp_pose
        env.reset()
        return first, env.state.tcp_pose

    assert starts(opened(seed=1)) == starts(opened(seed=1)) != starts(opened(seed=2))
    assert starts(opened(), seed=5) == starts(opened(), seed=5)


def test_a_start_pose_can_be_asked_for():
    env = opened()
    env.reset(options={"start_pose": CONFIG.reset.pose})
    np.testing.assert_allclose(env.state.tcp_pose, CONFIG.reset.pose)


def test_in_the_episodes_frame_every_episode_begins_at_zero():
    env = opened(task=changed(observation=ObservationConfig(pose_frame=PoseFrame.EPISODE_START)))
    for _ in range(3):
        observation, _ = env.reset()
        np.testing.assert_allclose(observation["proprio"][:6], 0.0, atol=1e-6)


def test_in_the_targets_frame_the_target_is_zero():
    env = opened()
    observation, _ = env.reset(options={"start_pose": CONFIG.target_pose})
    np.testing.assert_allclose(observation["proprio"][:6], 0.0, atol=1e-6)


@pytest.mark.parametrize("has_gripper", [False, True])
def test_an_action_that_is_not_finite_ends_the_episode_with_the_arm_held_where_it_is(has_gripper):
    robot = fake_robot()
    env = opened(robot, task=changed(action=ActionConfig(has_gripper=has_gripper)))
    env.reset()
    before = env.state
    action = np.zeros(6 + has_gripper, np.float32)
    action[2] = np.nan
    _, reward, terminated, truncated, info = env.step(action)
    assert (reward, terminated, truncated, info["end"]) == (0.0, False, True, EndReason.POLICY_FAULT)
    assert (env.state.tcp_pose, env.state.gripper) == (before.tcp_pose, before.gripper)
    np.testing.assert_array_equal(info["action"], np.zeros_like(action))
    assert robot.calls[-1] == "hold"


def test_a_state_that_is_old_makes_no_step():
    class Quiet(FakeRobot):
        def step(self, pose, reply_after_s, gripper=None):
            return msgspec.structs.replace(super().step(pose, reply_after_s, gripper), is_stale=True)

    env = opened(Quiet(CONFIG.reset.pose, CONFIG.target_pose))
    env.reset()
    with pytest.raises(RobotAway, match="gone quiet"):
        env.step(STILL)


def test_the_grippers_block_spans_closed_to_open():
    env = opened(task=changed(action=ActionConfig(has_gripper=True)))
    env.reset()
    for action, opening in [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)]:
        env.step(np.array([0, 0, 0, 0, 0, 0, action], np.float32))
        assert env.state.gripper == pytest.approx(opening)


def test_cameras_are_refused_by_an_environment_that_cannot_read_them():
    with pytest.raises(ConfigError, match=r"cameras \['wrist_1'\]: give ArmEnv a vision"):
        ArmEnv(changed(observation=ObservationConfig(cameras=(CameraConfig(name="wrist_1"),))), fake_robot())


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        opened().step(STILL)
