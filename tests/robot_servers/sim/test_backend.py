import hashlib
import math
import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.backend import Reference
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.model import LINKS, REST_Q
from serl_core.errors import ConfigError, RobotError
from serl_core.robots.messages import ImpedanceParams, Mode, SimAdvanceCommand, encode

DOWN = (1.0, 0.0, 0.0, 0.0)
START = (0.5, 0.0, 0.12)
ASIDE = (0.4, 0.15)  # bare table
STIFFNESS, CLIP, DAMPING = 2000.0, 0.008, 89.0


class Arm:
    """A lockstep simulator whose servo returns `reference`, whatever happens."""

    def __init__(self, seed=0, **kwargs):
        self.backend = MujocoBackend("ram_insertion", seed=seed, is_lockstep=True, **kwargs)
        self.refer(START)
        self.calls = []
        self.backend.start(self.servo)

    def servo(self, now_s, measured):
        self.calls.append((now_s, [numbers.copy() for numbers in measured]))
        return self.reference

    def refer(self, position, quaternion=DOWN):
        self.reference = Reference(np.array(position, float), np.array(quaternion, float))

    def push(self, *wrench):
        self.reference = self.reference._replace(wrench=np.array(wrench))

    def place(self, position):
        self.backend.reset(None, (*position, *DOWN))
        self.refer(position)

    def go(self, position, duration_s, step_s=0.01):
        """Move the reference in a straight line, then wait for a fifth of a second."""
        start = np.array(self.backend.state().tcp_pose[:3])
        steps = round(duration_s / step_s)
        for i in range(1, steps + 1):
            self.refer(start + (np.array(position) - start) * i / steps)
            self.backend.advance(step_s)
        return self.after(0.2)

    def after(self, duration_s):
        self.backend.advance(duration_s)
        return self.backend.state()


@pytest.fixture
def arm():
    return Arm()


def test_arm_holds_its_pose_against_gravity(arm):
    state = arm.after(2.0)
    np.testing.assert_allclose(state.tcp_pose[:3], START, atol=2e-5)
    np.testing.assert_allclose(state.tcp_wrench, 0.0, atol=1e-9)
    assert np.abs(state.dq).max() < 1e-3


def test_reading_is_consistent_in_itself(arm):
    arm.refer((0.55, 0.03, 0.15))
    state = arm.after(0.15)
    jacobian = np.array(state.jacobian)
    assert jacobian.shape == (6, 7)
    assert np.abs(state.tcp_twist[:3]).max() > 0.02
    np.testing.assert_allclose(state.tcp_twist, jacobian @ state.dq, atol=1e-12)
    before = np.array(state.tcp_pose[:3])
    after = np.array(arm.after(0.001).tcp_pose[:3])
    np.testing.assert_allclose((after - before) / 0.001, state.tcp_twist[:3], atol=2e-3)


def test_servo_is_asked_every_millisecond_with_the_reading_of_that_tick(arm):
    arm.refer((0.55, 0.03, 0.15))
    before = arm.after(0.15)
    arm.calls.clear()
    arm.after(0.005)
    np.testing.assert_allclose([now for now, _ in arm.calls], [0.15, 0.151, 0.152, 0.153, 0.154])
    _, (position, quaternion, q, dq, jacobian) = arm.calls[0]
    assert (*position, *quaternion) == before.tcp_pose
    assert (tuple(q), tuple(dq)) == (before.q, before.dq)
    np.testing.assert_array_equal(jacobian, before.jacobian)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_free_speed_stays_below_clip_times_stiffness_over_damping(arm, axis):
    arm.place((0.45, -0.1, 0.3))
    target = np.array([0.45, -0.1, 0.3])
    target[axis] += 0.2
    arm.refer(target)
    speeds = [abs(arm.after(0.01).tcp_twist[axis]) for _ in range(60)]
    assert 0.8 * STIFFNESS * CLIP / DAMPING < max(speeds) <= 1.02 * STIFFNESS * CLIP / DAMPING


def test_steady_push_on_the_table_is_stiffness_times_clip(arm):
    arm.place((*ASIDE, 0.05))
    state = arm.go((*ASIDE, 0.0), 2.0)
    np.testing.assert_allclose(state.tcp_wrench[2], STIFFNESS * CLIP, rtol=0.1)
    np.testing.assert_allclose(state.tcp_wrench[:2], 0.0, atol=2.0)


def test_push_on_a_wall_is_reported_as_force_and_moment_on_the_tool(arm):
    arm.place((0.5, 0.03, 0.05))  # the stick stands beside the socket, its lower end below the rim
    state = arm.go((0.5, 0.0, 0.05), 1.5)
    force, moment = np.array(state.tcp_wrench[:3]), np.array(state.tcp_wrench[3:])
    np.testing.assert_allclose(force[1], STIFFNESS * CLIP, rtol=0.15)
    # The force acts on the stick between its lower end and the rim, below the tool centre point.
    lever_m = moment[0] / force[1]
    assert 0.05 - 0.040 <= lever_m <= 0.033


@pytest.mark.parametrize("stiffness", [1000.0, 2000.0])
def test_grip_gives_way_by_six_micrometres_per_newton(arm, stiffness):
    """The weld that holds the stick has this one compliance, whatever the push."""
    arm.backend.set_impedance(ImpedanceParams(translational_stiffness_n_m=stiffness))
    arm.place((*ASIDE, 0.05))
    free = arm.backend.state()
    pushed = arm.go((*ASIDE, 0.0), 2.0)
    length = [state.tcp_pose[2] - state.truth.object_pose[2] for state in (free, pushed)]
    np.testing.assert_allclose((length[0] - length[1]) / pushed.tcp_wrench[2], 6e-6, rtol=0.1)


def test_push_is_steady(arm):
    """A grip that stiffens with its deflection made the arm chatter on the table by 3 N at 15 Hz."""
    arm.place((*ASIDE, 0.05))
    arm.go((*ASIDE, 0.0), 2.0)
    assert np.std([arm.after(0.003).tcp_wrench[2] for _ in range(100)]) < 0.05


def test_contacts_do_not_let_the_stick_sink_in(arm):
    arm.place((*ASIDE, 0.05))
    state = arm.go((*ASIDE, 0.0), 2.0)
    assert state.truth.object_pose[2] - 0.018 > -5e-5


def test_scripted_descent_inserts_the_stick(arm):
    state = arm.go((0.5, 0.0, 0.055), 1.5)
    assert state.truth.is_success
    np.testing.assert_allclose(state.tcp_pose[2], 0.058, atol=5e-4)
    np.testing.assert_allclose(state.truth.object_pose[:3], state.truth.target_pose[:3], atol=6e-4)


@pytest.mark.parametrize("offset", [(0.002, 0.0), (-0.002, 0.0), (0.0, 0.002), (0.0, -0.002)])
def test_descent_two_millimetres_off_stays_on_the_rim(arm, offset):
    x, y = 0.5 + offset[0], offset[1]
    arm.place((x, y, 0.09))
    state = arm.go((x, y, 0.055), 1.5)
    assert not state.truth.is_success
    assert state.tcp_pose[2] > 0.068
    assert state.tcp_wrench[2] > 5.0


def run_hash(seed):
    arm = Arm(seed=seed)
    digest = hashlib.sha256()
    random = np.random.default_rng(3)
    for _ in range(3):
        arm.backend.reset(None, None)
        for _ in range(40):
            pose = np.array(arm.backend.state().tcp_pose)
            arm.refer(pose[:3] + random.uniform(-0.01, 0.01, 3) - (0, 0, 0.004), pose[3:])
            digest.update(encode(arm.after(0.025)))
    return digest.hexdigest()


def test_lockstep_run_is_the_same_to_the_bit_for_the_same_seed():
    assert run_hash(0) == run_hash(0)


def test_other_seed_holds_the_stick_a_little_differently():
    assert run_hash(0) != run_hash(1)


def test_reset_with_a_seed_repeats_the_scene(arm):
    poses = []
    for seed in (5, 5, 6):
        arm.backend.reset(seed, None)
        poses.append(arm.backend.state().truth.object_pose)
    assert poses[0] == poses[1] != poses[2]


def test_reset_in_full_motion_leaves_the_arm_at_rest_at_the_pose(arm):
    arm.refer((0.6, 0.1, 0.3))
    arm.after(0.3)
    turned = Rotation.from_rotvec((0.0, 0.0, 0.1)) * Rotation.from_quat(DOWN)
    pose = (0.53, -0.04, 0.12, *turned.as_quat().tolist())
    arm.backend.reset(None, pose)
    state = arm.backend.state()
    np.testing.assert_allclose(state.tcp_pose, pose, atol=5e-6)
    np.testing.assert_array_equal(state.dq, 0.0)
    np.testing.assert_array_equal(state.tcp_wrench, 0.0)
    np.testing.assert_allclose(state.reference_pose, state.tcp_pose)
    arm.refer(pose[:3], pose[3:])
    np.testing.assert_allclose(arm.after(0.5).tcp_pose, pose, atol=1e-4)


def test_clock_goes_on_through_a_reset(arm):
    arm.after(0.25)
    arm.backend.reset(0, None)
    assert arm.backend.now_s() == pytest.approx(0.25)
    assert arm.backend.state().stamp_s == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("pose", "why"), [((1.5, 0.0, 0.3, *DOWN), "cannot reach"), ((*ASIDE, 0.02, *DOWN), "inside something")]
)
def test_start_pose_that_cannot_be_is_refused_and_changes_nothing(arm, pose, why):
    before = arm.backend.state()
    with pytest.raises(RobotError, match=why) as refusal:
        arm.backend.reset(7, pose)
    assert refusal.value.field == "pose"
    assert arm.backend.state() == before


def test_filter_delays_the_reference_in_the_state():
    arm = Arm(target_filter_s=0.05)
    arm.refer((0.51, 0.0, 0.12))
    state = arm.after(0.05)
    np.testing.assert_allclose(state.reference_pose[0], 0.5 + 0.01 * (1 - math.exp(-1)), atol=1e-6)


def test_softer_gains_push_less(arm):
    arm.backend.set_impedance(ImpedanceParams(translational_stiffness_n_m=1000.0, translational_damping_ns_m=63.0))
    arm.place((*ASIDE, 0.05))
    state = arm.go((*ASIDE, 0.0), 2.0)
    np.testing.assert_allclose(state.tcp_wrench[2], 1000.0 * CLIP, rtol=0.1)


def test_gains_do_not_rise_while_the_arm_pushes_above_ten_newtons(arm):
    arm.place((*ASIDE, 0.05))
    arm.go((*ASIDE, 0.0), 2.0)
    arm.backend.set_impedance(ImpedanceParams(translational_stiffness_n_m=2900.0))
    np.testing.assert_allclose(arm.after(1.0).tcp_wrench[2], STIFFNESS * CLIP, rtol=0.1)


def test_joint_reset_goes_slowly_to_the_rest_posture(arm):
    arm.place((0.5, 0.1, 0.25))
    arm.backend.start_joint_reset()
    fastest = 0.0
    while arm.backend.joint_reset_error_rad() > 0.01:
        state = arm.after(0.1)
        fastest = max(fastest, np.linalg.norm(state.tcp_twist[:3]))
        assert state.stamp_s < 15.0
    np.testing.assert_allclose(arm.backend.state().q, REST_Q, atol=0.01)
    assert fastest < 0.25
    arm.after(0.5)
    assert arm.backend.joint_reset_error_rad() < 0.002


def test_cancelled_joint_reset_holds_where_the_arm_is(arm):
    arm.backend.start_joint_reset()
    arm.after(1.0)
    arm.backend.cancel_joint_reset()
    assert arm.backend.joint_reset_error_rad() is None
    pose = arm.backend.state().tcp_pose
    arm.refer(pose[:3], pose[3:])
    arm.after(0.2)
    np.testing.assert_allclose(arm.after(0.5).tcp_pose[:3], pose[:3], atol=2e-3)


def test_blocked_joint_reset_latches_and_the_arm_holds_where_it_is():
    """Only the time-out of 30 s ended it, with the motors' full torque until then."""
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    robot.sim_reset(pose=(0.45, -0.05, 0.05, *DOWN))  # the stick stands beside the socket, near the table
    world = service.backend._world
    step, held = world.step, world.q.copy()

    def step_held(torque):
        step(torque)
        world.q[:], world.dq[:] = held, 0.0

    world.step = step_held
    with pytest.raises(RobotError, match="joint reset cancelled: joint_reset_blocked"):
        robot.joint_reset()
    assert (robot.state().mode, robot.state().fault) == (Mode.FAULT, "joint_reset_blocked")
    assert robot.state().stamp_s < 2.0
    service.sim_advance(SimAdvanceCommand(epoch=robot.state().lease_epoch, duration_s=0.1))  # the torque fades
    world.step = step
    before = robot.state()
    robot.recover()
    service.sim_advance(SimAdvanceCommand(epoch=before.lease_epoch, duration_s=0.3))
    assert robot.state().mode is Mode.HOLD
    np.testing.assert_allclose(robot.state().tcp_pose[:3], before.tcp_pose[:3], atol=2e-3)
    robot.close()
    service.close()


def test_reference_that_is_not_finite_latches_a_fault_and_the_arm_holds(arm):
    arm.refer((math.nan, 0.0, 0.12))
    state = arm.after(0.5)
    assert state.fault == arm.backend.fault() == "numeric_fault"
    arm.refer((0.52, 0.0, 0.12))
    np.testing.assert_allclose(arm.after(0.5).tcp_pose[:3], START, atol=1e-4)
    arm.backend.recover()
    assert arm.backend.fault() is None
    np.testing.assert_allclose(arm.after(1.0).tcp_pose[:3], (0.52, 0.0, 0.12), atol=1e-3)


@pytest.mark.parametrize(
    ("wrench", "base_axis", "sign"),
    [((5.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0, 1.0), ((0.0, 0.0, 5.0, 0.0, 0.0, 0.0), 2, -1.0)],
)
def test_wrench_along_a_tool_axis_moves_the_arm_by_force_over_stiffness(arm, wrench, base_axis, sign):
    arm.push(*wrench)
    moved = np.array(arm.after(1.0).tcp_pose[:3]) - START
    expected = np.zeros(3)
    expected[base_axis] = sign * 5.0 / STIFFNESS
    np.testing.assert_allclose(moved, expected, atol=0.05 * 5.0 / STIFFNESS)


def test_wrench_about_a_tool_axis_turns_the_tool_and_does_not_move_it(arm):
    arm.push(0.0, 0.0, 0.0, 0.0, 0.0, 2.0)
    state = arm.after(1.0)
    turn = (Rotation.from_quat(state.tcp_pose[3:]) * Rotation.from_quat(DOWN).inv()).as_rotvec()
    np.testing.assert_allclose(turn, [0.0, 0.0, -2 * 2.0 / 150.0], atol=2e-3)
    np.testing.assert_allclose(state.tcp_pose[:3], START, atol=2e-4)


def test_wrench_commanded_once_is_over_after_its_time_out_and_the_arm_comes_back():
    """Through the whole server: the kernel ends it, and the set-point has not moved."""
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    before = robot.state()
    moved_m = []
    for i in range(60):
        if i < 40:
            robot.set_wrench((5.0, 0.0, 0.0, 0.0, 0.0, 0.0))
        service.sim_advance(SimAdvanceCommand(epoch=before.lease_epoch, duration_s=0.02))
        moved_m.append(robot.state().tcp_pose[0] - before.tcp_pose[0])
    assert moved_m[43] == pytest.approx(5.0 / STIFFNESS, rel=0.05)
    assert moved_m[50] < 0.5 * 5.0 / STIFFNESS
    service.sim_advance(SimAdvanceCommand(epoch=before.lease_epoch, duration_s=0.5))
    after = robot.state()
    np.testing.assert_allclose(after.tcp_pose[:3], before.tcp_pose[:3], atol=5e-5)
    assert after.mode is Mode.HOLD
    robot.close()
    service.close()


def test_wrench_that_is_not_finite_latches_a_fault_and_pushes_nowhere(arm):
    arm.push(math.nan, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert arm.after(0.5).fault == "numeric_fault"
    np.testing.assert_allclose(arm.backend.state().tcp_pose[:3], START, atol=1e-4)


def test_latched_fault_takes_the_wrench_away(arm):
    arm.push(5.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    arm.after(0.5)
    pushing = arm.reference
    arm.refer((math.nan, 0.0, 0.12))
    pushed_to = arm.after(0.001).tcp_pose
    arm.reference = pushing
    np.testing.assert_allclose(arm.after(1.0).tcp_pose[:3], pushed_to[:3], atol=5e-4)  # 2.5 mm further with it


@pytest.mark.parametrize("bad", ["reference", "wrench"])
def test_numeric_fault_in_contact_ends_the_push(arm, bad):
    """The law kept its last reference, so an arm that pressed on the table went on pressing with 16 N."""
    arm.place((*ASIDE, 0.05))
    assert arm.go((*ASIDE, 0.0), 2.0).tcp_wrench[2] > 14.0
    if bad == "reference":
        arm.refer((math.nan, 0.0, 0.0))
    else:
        arm.push(math.nan, 0.0, 0.0, 0.0, 0.0, 0.0)
    state = arm.after(0.5)
    assert state.fault == "numeric_fault"
    assert abs(state.tcp_wrench[2]) < 2.0


def test_fingers_report_the_width_of_the_stick_and_close_no_further(arm):
    assert arm.backend.state().gripper == pytest.approx(0.005 / 0.08)
    arm.backend.set_gripper(0.0, 0.05, 20.0)
    assert arm.after(0.5).gripper == pytest.approx(0.005 / 0.08, abs=0.002)


def test_opening_the_hand_drops_the_stick_and_a_reset_takes_it_back(arm):
    arm.backend.set_gripper(1.0, 0.1, 20.0)
    state = arm.after(1.0)
    assert state.gripper == pytest.approx(1.0, abs=0.01)
    assert state.truth.object_pose[2] < 0.08
    np.testing.assert_allclose(state.tcp_wrench, 0.0, atol=1e-6)
    arm.backend.reset(None, None)
    assert arm.backend.state().gripper == pytest.approx(0.005 / 0.08)
    np.testing.assert_allclose(arm.after(0.5).truth.object_pose[:3], (0.5, 0.0, 0.105), atol=1e-3)


def test_wrong_load_makes_the_arm_sag_by_its_weight(arm):
    arm.backend.set_load(0.53, (0.0, 0.0, 0.1184), (0.0,) * 9)
    state = arm.after(1.0)
    np.testing.assert_allclose(state.tcp_pose[2] - START[2], 0.5 * 9.81 / STIFFNESS, rtol=0.05)


def test_load_off_the_tools_axis_turns_the_tool(arm):
    """The flange's frame is 45 degrees from the hand's: a load along flange (1, 1) is along the hand's y."""
    arm.backend.set_load(0.2, (0.07, 0.07, 0.1034), (0.0,) * 9)
    state = arm.after(1.0)
    turn = (Rotation.from_quat(state.tcp_pose[3:]) * Rotation.from_quat(DOWN).inv()).as_rotvec()
    torque = 0.2 * 9.81 * math.hypot(0.07, 0.07)
    np.testing.assert_allclose(abs(turn[0]), 2 * torque / 150.0, rtol=0.1)
    assert abs(turn[1]) < 0.1 * abs(turn[0])


def test_arm_free_to_move_is_pushed_off_a_joint_limit(arm):
    """Seven joints have ends, and nothing kept the simulated arm off them."""
    turned = Rotation.from_rotvec((0.0, 0.0, -2.08)) * Rotation.from_quat(DOWN)
    arm.backend.reset(None, (0.5, 0.0, 0.3, *turned.as_quat().tolist()))
    high_rad = LINKS[6].range_rad[1]
    assert high_rad - arm.backend.state().q[6] < 0.05
    arm.servo = lambda now_s, measured: Reference(measured.position_m, measured.quaternion)
    arm.backend.start(arm.servo)
    assert high_rad - arm.after(1.0).q[6] > 0.09


def test_unknown_scene_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'moon'.*ram_insertion"):
        MujocoBackend("moon", is_lockstep=True)


def test_only_a_started_lockstep_simulator_can_be_advanced():
    backend = MujocoBackend("ram_insertion", is_lockstep=True)
    with pytest.raises(RobotError, match="not been started"):
        backend.advance(0.1)


def test_real_time_keeps_to_the_wall_clock_and_ends_when_stopped():
    arm = Arm()
    backend = MujocoBackend("ram_insertion", is_lockstep=False)
    began_s = time.monotonic()
    backend.start(arm.servo)
    try:
        with pytest.raises(RobotError, match="real time"):
            backend.advance(0.1)
        time.sleep(0.3)
        while backend.now_s() < 0.25:
            time.sleep(0.01)
        assert backend.now_s() <= time.monotonic() - began_s
        np.testing.assert_allclose(backend.state().tcp_pose[:3], START, atol=1e-4)
    finally:
        backend.stop()
    stopped_s = backend.now_s()
    time.sleep(0.03)
    assert backend.now_s() == stopped_s
    backend.stop()


def test_real_time_loop_that_dies_is_a_latched_fault():
    backend = MujocoBackend("ram_insertion", is_lockstep=False)

    def broken(now_s, measured):
        raise ValueError("servo")

    backend.start(broken)
    while backend.fault() is None:
        time.sleep(0.001)
    backend.stop()
    assert backend.fault() == "control_loop_died"
