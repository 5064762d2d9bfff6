import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given

from examples.ram_insertion import CONFIG
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.config import ResetConfig
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import random_start, reset_arm, start_grid, start_pose
from serl_core.envs.task import load_task
from serl_core.errors import ResetError, RobotError, RobotFault
from serl_core.geometry import distance
from serl_core.robots.messages import JOINT_LIMIT, Mode
from serl_core.testing.fakes import FakeRobot
from tests.serl_core.strategies import vectors

RESET = CONFIG.reset
TELEPORTED = dataclasses.replace(CONFIG, reset=dataclasses.replace(RESET, is_teleport=True))
START = np.array(RESET.pose)


def connected(**options):
    robot = FakeRobot(CONFIG.target_pose, CONFIG.target_pose, **options)
    robot.connect()
    return robot


def assert_within_the_range(pose: np.ndarray, config: ResetConfig):
    apart = np.abs(pose[:3] - config.pose[:3])
    assert (apart <= np.array(config.randomise_m) + 1e-12).all()
    assert distance(np.array([*pose[:3], *config.pose[3:]]), pose)[1] <= config.randomise_rz_rad + 1e-9


@given(vectors(4))
def test_a_start_pose_stays_within_the_range(offset):
    assert_within_the_range(start_pose(RESET, offset), RESET)


def test_random_starts_come_from_the_generator_alone():
    first, again, other = (random_start(RESET, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert distance(first, other)[0] > 0


def test_the_evaluation_grid_is_the_same_on_every_call_and_covers_the_range():
    grid = np.array(start_grid(RESET, 50))
    np.testing.assert_array_equal(grid, start_grid(RESET, 50))
    for pose in grid:
        assert_within_the_range(pose, RESET)
    x, y = (grid[:, :2] - RESET.pose[:2]).T / 0.04
    for in_quadrant in ((x > 0) & (y > 0), (x > 0) & (y < 0), (x < 0) & (y > 0), (x < 0) & (y < 0)):
        assert 10 <= in_quadrant.sum() <= 15  # of 50, evenly spread


def test_a_longer_grid_begins_with_the_shorter_and_a_skipped_one_shares_no_pose():
    np.testing.assert_array_equal(start_grid(RESET, 30)[:10], start_grid(RESET, 10))
    np.testing.assert_array_equal(start_grid(RESET, 30)[10:], start_grid(RESET, 20, skip=10))


def test_the_grid_is_distinct_from_what_training_draws():
    drawn = np.array([random_start(RESET, rng) for rng in [np.random.default_rng(0)] for _ in range(200)])
    for pose in start_grid(RESET, 50):
        assert np.abs(drawn - pose).max(1).min() > 0


def test_a_reset_lifts_first_then_moves_to_the_start_and_ends_compliant():
    robot = connected()
    state = reset_arm(robot, CONFIG, START)
    assert robot.calls == ["connect", "set_impedance", "move", "move", "set_impedance"]
    np.testing.assert_allclose(state.tcp_pose, START)
    assert robot.impedance == CONFIG.compliance


def test_an_arm_above_the_lift_height_is_not_lowered_first():
    robot = FakeRobot((0.5, 0.0, 0.13, 1.0, 0.0, 0.0, 0.0), CONFIG.target_pose)
    robot.connect()
    reset_arm(robot, CONFIG, START)
    assert robot.calls.count("move") == 1


def test_a_reset_that_falls_short_is_tried_again():
    robot = connected(moves_short=2)  # the lift and the first move
    np.testing.assert_allclose(reset_arm(robot, CONFIG, START).tcp_pose, START)


def test_a_reset_that_never_arrives_raises_and_leaves_the_arm_compliant():
    """Fault 27 of earlier systems: it printed "timeout" and went on."""
    robot = connected(moves_short=100)
    with pytest.raises(ResetError, match=r"after 3 tries, 20\.0 mm and 0\.000 rad away where 4\.0 mm"):
        reset_arm(robot, CONFIG, START)
    assert robot.impedance == CONFIG.compliance


def test_a_move_that_the_server_gives_up_counts_as_a_try():
    class Blocked(FakeRobot):
        def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
            raise RobotError("the move failed: 12 mm away after 1 s")

    robot = Blocked(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    with pytest.raises(ResetError, match="12 mm away after 1 s"):
        reset_arm(robot, CONFIG, START)


def test_a_stop_during_a_reset_is_not_tried_again():
    robot = connected()
    robot.fail(Mode.STOPPED, "stop")
    with pytest.raises(RobotFault):
        reset_arm(robot, CONFIG, START)
    assert "recover" not in robot.calls
    assert "resume" not in robot.calls


def test_a_teleport_puts_the_simulated_arm_there_at_once():
    robot = connected()
    np.testing.assert_allclose(reset_arm(robot, TELEPORTED, START, seed=3).tcp_pose, START)
    assert "move" not in robot.calls


def test_a_seed_begins_the_simulated_scene_anew_and_the_arm_then_moves_to_the_start():
    """A reset by moving ignored the seed: how the stick lay in the hand was another each time."""
    robot = connected()
    state = reset_arm(robot, CONFIG, START, seed=3)
    assert [call for call in robot.calls if call in ("sim_reset", "move")][:2] == ["sim_reset", "move"]
    np.testing.assert_allclose(state.tcp_pose, START)


def test_a_seed_means_nothing_to_a_real_arm():
    class RealArm(FakeRobot):
        def health(self):
            return msgspec.structs.replace(super().health(), is_simulated=False)

    robot = RealArm(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    reset_arm(robot, CONFIG, START, seed=3)
    assert "sim_reset" not in robot.calls


class Wedged(FakeRobot):
    """Its object sits tight: only a pull up and towards +y frees it."""

    is_tight = True

    def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
        _, y, z = self.state().tcp_pose[:3]
        if self.is_tight and pose[2] > z:
            self.calls.append("move")
            if pose[1] - y < 0.001:
                raise RobotError("the move failed: the arm is 59.0 mm short of the goal")
            self.is_tight = False
        return super().move(pose, speed_m_s, speed_rad_s)


def test_a_wedged_object_is_pulled_to_each_side():
    robot = Wedged(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    state = reset_arm(robot, CONFIG, np.array(CONFIG.reset.pose))
    assert not robot.is_tight
    np.testing.assert_allclose(state.tcp_pose, CONFIG.reset.pose, atol=1e-9)


def test_what_stays_wedged_is_an_error_after_every_try():
    class Stuck(Wedged):
        def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
            raise RobotError("the move failed: the arm is 59.0 mm short of the goal")

    robot = Stuck(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    with pytest.raises(ResetError, match=r"3 tries.*59\.0 mm short"):
        reset_arm(robot, CONFIG, np.array(CONFIG.reset.pose))


class TurnedIntoALimit(FakeRobot):
    """Comes up, and reaches the start only from its rest posture."""

    is_turned = True

    def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
        if self.is_turned and pose == CONFIG.reset.pose:
            self.calls.append("move")
            raise RobotError("the move failed: joint 6 at 3.703 rad would be driven further in", cause=JOINT_LIMIT)
        return super().move(pose, speed_m_s, speed_rad_s)

    def joint_reset(self):
        self.is_turned = False
        return super().joint_reset()


def test_a_lifted_arm_whose_way_back_leads_into_a_joints_limit_goes_by_its_rest_posture():
    robot = TurnedIntoALimit(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    state = reset_arm(robot, CONFIG, START)
    assert robot.calls[-4:] == ["joint_reset", "move", "move", "set_impedance"]
    np.testing.assert_allclose(state.tcp_pose, START)


def test_an_arm_that_is_not_lifted_is_not_led_by_its_joints():
    """They would take what it holds sideways through what holds it."""

    class Stuck(TurnedIntoALimit):
        def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
            raise RobotError("the move failed: joint 6 at 3.703 rad would be driven further in", cause=JOINT_LIMIT)

    not_lifted = dataclasses.replace(CONFIG, reset=dataclasses.replace(RESET, lift_to_z_m=None))
    for task, robot_type in ((CONFIG, Stuck), (not_lifted, TurnedIntoALimit)):
        robot = robot_type(CONFIG.target_pose, CONFIG.target_pose)
        robot.connect()
        with pytest.raises(ResetError, match="3 tries"):
            reset_arm(robot, task, START)
        assert "joint_reset" not in robot.calls


def test_only_a_joints_limit_leads_an_arm_to_its_rest_posture():
    class Refused(FakeRobot):
        def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
            if pose == CONFIG.reset.pose:
                raise RobotError("pose[2] is outside the box", status=422, field="pose[2]")
            return super().move(pose, speed_m_s, speed_rad_s)

    for robot in (Refused(CONFIG.target_pose, CONFIG.target_pose), connected(moves_short=100)):
        robot.connect()
        with pytest.raises(ResetError, match="3 tries"):
            reset_arm(robot, CONFIG, START)
        assert "joint_reset" not in robot.calls


def test_a_fault_on_the_way_to_the_rest_posture_is_not_tried_again():
    class Reflex(TurnedIntoALimit):
        def joint_reset(self):
            self.fail(Mode.FAULT, "reflex")
            return super().joint_reset()

    robot = Reflex(CONFIG.target_pose, CONFIG.target_pose)
    robot.connect()
    with pytest.raises(RobotFault):
        reset_arm(robot, CONFIG, START)


def test_a_tool_that_a_policy_has_turned_as_far_as_it_goes_comes_back_in_the_simulation():
    """The straight way back from there leads joint 6 into its limit: the actor ended with a ResetError."""
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    robot = LocalRobot(service)
    turn = np.array([-1, -1, 1, 1, -1, 1], np.float32)
    try:
        with ArmEnv(load_task("ram_insertion"), robot, seed=0) as env:
            env.reset()
            while not env.step(turn)[3]:
                pass
            env.reset()
            start, at = np.array(robot.state().tcp_pose), CONFIG.reset.pose
            assert np.abs(start[:2] - at[:2]).max() < 0.045
            assert start[2] == pytest.approx(at[2], abs=0.005)
            assert robot.state().q[5] < 3.0  # rad; its limit is 3.75
    finally:
        service.close()
