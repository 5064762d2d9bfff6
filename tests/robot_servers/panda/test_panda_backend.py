import math
import threading
import time

import fake_panda
import msgspec
import numpy as np
import panda_py
import pytest
from panda_py import constants, controllers, libfranka

from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.backend import Reference
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.panda import PandaBackend
from robot_servers.panda import connect as panda_connect
from robot_servers.panda.backend import PERIOD_S
from robot_servers.panda.control import damping_ratio, impedance_matrix
from robot_servers.service import RobotService
from serl_core.errors import RobotError
from serl_core.robots.messages import (
    EpochCommand,
    ImpedanceParams,
    JointResetCommand,
    LeaseRequest,
    Mode,
    PoseCommand,
    RecoverCommand,
)

IP = "127.0.0.9"


class Gripper:
    """Remembers; never at fault unless told."""

    def __init__(self):
        self.calls = []
        self.cause = None

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def move(self, position, speed_m_s, force_n):
        self.calls.append(("move", position, speed_m_s, force_n))

    def position(self):
        return 0.25

    def fault(self):
        return self.cause

    def recover(self):
        self.calls.append("recover")


class Servo:
    """Wants the arm where it is measured, or what a test sets; keeps what it was called with."""

    def __init__(self):
        self.ticks = []
        self.reference = None
        self.on_tick = lambda: None

    def __call__(self, now_s, measured):
        self.ticks.append((now_s, measured))
        self.on_tick()
        if self.reference is None:
            return Reference(measured.position_m, measured.quaternion)
        return self.reference


def wait_until(condition, timeout_s=10.0):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not come to pass"
        time.sleep(0.002)


@pytest.fixture
def arm(monkeypatch):
    arm = fake_panda.FakeArm()
    monkeypatch.setattr(panda_py, "Panda", type("Panda", (fake_panda.Panda,), {"arm": arm}))
    monkeypatch.setattr(controllers, "CartesianImpedance", fake_panda.CartesianImpedance)
    monkeypatch.setattr(controllers, "JointPosition", fake_panda.JointPosition)
    monkeypatch.setattr(panda_connect, "knock", lambda *_: None)
    return arm


@pytest.fixture
def make(arm):
    backends = []

    def make(**options):
        options = {"gripper": None, "enforce_realtime": False, **options}
        backends.append(PandaBackend(IP, options.pop("limits", SafetyLimits()), **options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.stop()


@pytest.fixture
def running(make):
    """A started backend and its servo, after a few ticks."""
    backend, servo = make(), Servo()
    backend.start(servo)
    wait_until(lambda: len(servo.ticks) >= 3)
    return backend, servo


def far(arm, dx_m=0.05):
    x, y, z, *quaternion = arm.pose
    return Reference(np.array([x + dx_m, y, z]), np.array(quaternion))


def test_it_starts_at_the_pose_that_it_finds(arm, running):
    backend, servo = running
    ((_, controller),) = arm.named("start")
    for position, orientation, posture in controller.targets:
        np.testing.assert_allclose(position, arm.pose[:3], atol=1e-9)
        assert abs(float(orientation @ np.array(arm.pose[3:]))) == pytest.approx(1.0)
        np.testing.assert_array_equal(posture, REST_Q)
    assert backend.fault() is None
    np.testing.assert_allclose(servo.ticks[-1][1].position_m, arm.pose[:3], atol=1e-9)


def test_gains_and_thresholds_are_there_before_the_arm_is_controlled(arm, running):
    limits, params = SafetyLimits(), ImpedanceParams()
    what = [call[0] for call in arm.calls]
    assert what.index("collision") < what.index("start")
    torque, force = list(limits.collision_torque_nm), list(limits.collision_force_n)
    assert arm.named("collision") == [("collision", torque, torque, force, force)]
    ((_, controller),) = arm.named("start")
    np.testing.assert_array_equal(controller.impedances[0], np.diag([2000.0] * 3 + [150.0] * 3))
    assert 2.0 * controller.ratios[0] * math.sqrt(2000.0) == pytest.approx(params.translational_damping_ns_m)
    assert controller.postures == [params.nullspace_stiffness_nm_rad]


def test_no_target_is_further_from_the_arm_than_the_error_clip(arm, running):
    _, servo = running
    arm.follows = False  # something is in the way
    servo.reference = far(arm)
    controller = arm.controller
    wait_until(lambda: controller.targets[-1][0][0] - arm.pose[0] > 0.0079)
    time.sleep(20 * PERIOD_S)
    ahead = [target[0][0] - arm.pose[0] for target in controller.targets]
    assert max(ahead) == pytest.approx(ImpedanceParams().translational_clip_m[1])


def test_a_free_arm_arrives_where_the_reference_is(arm, running):
    backend, servo = running
    goal = far(arm)
    servo.reference = goal
    wait_until(lambda: abs(arm.pose[0] - goal.position_m[0]) < 1e-4)
    np.testing.assert_allclose(backend.state().reference_pose[:3], goal.position_m, atol=1e-3)


def test_a_wrench_moves_the_target_on_by_its_force_over_the_stiffness(arm, running):
    _, servo = running
    arm.follows = False
    x, y, z, *quaternion = arm.pose
    push = np.array([0.0, 0.0, 10.0, 0.0, 0.0, 0.0])  # tool frame: down
    servo.reference = Reference(np.array([x, y, z]), np.array(quaternion), push)
    controller = arm.controller
    wait_until(lambda: abs(controller.targets[-1][0][2] - (z - 10.0 / 2000.0)) < 1e-6)


def test_target_filter_is_shared_between_driver_and_library(arm, make):
    backend, servo = make(target_filter_s=0.02), Servo()
    backend.start(servo)
    assert arm.controller.filter_coeff == pytest.approx(1.0 - math.exp(-1e-3 / PERIOD_S))
    backend.stop()
    backend = make(target_filter_s=0.0)
    backend.start(servo)
    assert arm.controller.filter_coeff == 1.0


def test_gains_ramp_without_a_jump_and_arrive(arm, running):
    backend, _ = running
    controller = arm.controller
    backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), translational_stiffness_n_m=1000.0))
    wait_until(lambda: controller.impedances[-1][0, 0] == 1000.0)
    values = [impedance[0, 0] for impedance in controller.impedances]
    assert values == sorted(values, reverse=True)
    assert len(values) > 4
    assert controller.ratios[-1] == pytest.approx(89.0 / (2.0 * math.sqrt(1000.0)))


def test_no_gain_rises_while_the_arm_pushes(arm, running):
    backend, servo = running
    controller = arm.controller
    arm.force_on_world = [0.0, 0.0, 20.0, 0.0, 0.0, 0.0]
    ticks = len(servo.ticks)
    wait_until(lambda: len(servo.ticks) > ticks + 1)  # the one under way may have read the arm before
    backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), translational_stiffness_n_m=2500.0))
    ticks = len(servo.ticks)
    wait_until(lambda: len(servo.ticks) > ticks + 10)
    assert controller.impedances[-1][0, 0] == 2000.0
    arm.force_on_world = [0.0] * 6
    wait_until(lambda: controller.impedances[-1][0, 0] == 2500.0)


def test_an_integral_gain_is_refused_in_the_words_of_the_wire(running):
    backend, _ = running
    with pytest.raises(Refusal, match="no integral term") as refused:
        backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), translational_ki=1.0))
    assert (refused.value.status, refused.value.field) == (422, "params.translational_ki")


def test_state_is_consistent_and_its_wrench_is_what_the_world_exerts(arm, running):
    backend, _ = running
    arm.force_on_world = [1.0, 2.0, 3.0, 0.4, 0.5, 0.6]
    wait_until(lambda: backend.state().tcp_wrench[0] == -1.0)
    state = backend.state()
    assert state.tcp_wrench == (-1.0, -2.0, -3.0, -0.4, -0.5, -0.6)
    np.testing.assert_allclose(state.tcp_pose[:3], arm.pose[:3], atol=1e-9)
    np.testing.assert_allclose(state.tcp_twist, np.array(state.jacobian) @ np.array(state.dq))
    assert (state.q, state.mode, state.gripper) == (REST_Q, Mode.HOLD, 0.0)
    assert backend.now_s() >= state.stamp_s


def test_a_reflex_is_latched_and_nothing_clears_it_but_recover(arm, running):
    backend, servo = running
    arm.reflex()
    wait_until(lambda: backend.fault() is not None)
    assert backend.fault() == "reflex"
    ticks = len(servo.ticks)
    wait_until(lambda: len(servo.ticks) > ticks + 10)  # the kernel goes on hearing of the arm
    assert len(arm.named("start")) == 1
    assert arm.named("recover") == []
    assert bool(arm.errors)
    backend.recover()
    assert backend.fault() is None
    assert len(arm.named("recover")) == 1
    np.testing.assert_allclose(arm.controller.targets[0][0], arm.pose[:3], atol=1e-9)


def test_a_reflex_that_stays_is_said_to(arm, running):
    backend, _ = running
    arm.reflex()
    arm.stays_in_reflex = True
    wait_until(lambda: backend.fault() == "reflex")
    with pytest.raises(Refusal, match="still in 'reflex'"):
        backend.recover()
    assert backend.fault() == "reflex"
    assert len(arm.named("start")) == 1


def test_the_user_stop_and_a_controller_that_ends_are_told_apart(arm, running):
    backend, _ = running
    arm.controller = None  # its thread ended
    wait_until(lambda: backend.fault() == "controller_ended")
    arm.mode = libfranka.RobotMode.kUserStopped
    with pytest.raises(Refusal, match="at fault"):
        backend.start_joint_reset()
    backend.recover()
    arm.reflex(None, libfranka.RobotMode.kUserStopped)
    wait_until(lambda: backend.fault() == "user_stopped")


def test_no_controller_is_started_on_an_arm_at_fault(arm, running):
    """Starting one would clear the error: the library does so each time."""
    backend, _ = running
    arm.reflex()
    with pytest.raises(Refusal, match="at fault") as refused:
        backend.start_joint_reset()
    assert refused.value.status == 423
    with pytest.raises(Refusal, match="at fault"):
        backend.set_load(0.5, (0.0, 0.0, 0.05), (0.001, 0, 0, 0, 0.001, 0, 0, 0, 0.001))
    assert bool(arm.errors)
    assert len(arm.named("start")) == 1


def test_joint_reset_goes_to_the_rest_posture_stays_and_gives_control_back(arm, make):
    arm.q = np.array(REST_Q) + np.array([0.1, -0.1, 0.0, 0.1, 0.0, 0.0, 0.1])
    arm.matrix = fake_panda.hand_pose(arm.q.tolist())
    backend, servo = make(), Servo()
    backend.start(servo)
    assert backend.joint_reset_error_rad() is None
    backend.start_joint_reset()
    controller, start_rad = arm.controller, REST_Q[0] + 0.1
    wait_until(lambda: backend.joint_reset_error_rad() < 0.001)
    assert controller.targets[0][0][0] == pytest.approx(start_rad)
    np.testing.assert_array_equal(controller.targets[0][1], 0.0)
    wait_until(lambda: np.array_equal(controller.targets[-1][0], REST_Q))
    backend.cancel_joint_reset()
    assert backend.joint_reset_error_rad() is None
    wait_until(lambda: isinstance(arm.controller, fake_panda.CartesianImpedance))
    np.testing.assert_allclose(arm.controller.targets[0][0], arm.pose[:3], atol=1e-9)
    assert backend.fault() is None


def test_a_joint_reset_that_is_held_back_is_a_fault_and_the_arm_holds(arm, make, monkeypatch):
    monkeypatch.setattr("robot_servers.arm_parts.joint_move.BLOCKED_S", 0.05)
    arm.q = np.array(REST_Q) + 0.3
    arm.matrix = fake_panda.hand_pose(arm.q.tolist())
    arm.follows = False
    backend = make()
    backend.start(Servo())
    backend.start_joint_reset()
    wait_until(lambda: backend.fault() == "joint_reset_blocked")
    wait_until(lambda: isinstance(arm.controller, fake_panda.CartesianImpedance))


def test_a_lost_connection_is_told_to_the_kernel_and_then_there_are_no_ticks(arm, running):
    backend, servo = running
    faults = []
    servo.on_tick = lambda: faults.append(backend.fault())
    arm.is_connected = False
    wait_until(lambda: "connection_lost" in faults)
    ticks = len(servo.ticks)
    time.sleep(10 * PERIOD_S)
    assert len(servo.ticks) == ticks
    assert backend.state().fault == "connection_lost"
    with pytest.raises(Refusal, match="connection to the arm is lost") as refused:
        backend.recover()
    assert refused.value.status == 503


def test_an_arm_whose_clock_stands_still_makes_no_ticks(arm, running):
    backend, servo = running
    arm.is_frozen = True
    ticks = len(servo.ticks)
    time.sleep(15 * PERIOD_S)
    assert len(servo.ticks) <= ticks + 1  # the one that was under way
    assert backend.fault() is None


def test_a_reference_that_is_not_finite_is_a_fault_and_the_arm_holds(arm, running):
    backend, servo = running
    servo.reference = Reference(np.array([math.nan, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    wait_until(lambda: backend.fault() == "numeric_fault")
    time.sleep(5 * PERIOD_S)
    targets = np.array([target[0] for target in arm.controller.targets])
    assert np.isfinite(targets).all()
    np.testing.assert_allclose(targets[-1], arm.pose[:3], atol=1e-6)


def test_a_pose_that_is_no_pose_reaches_the_kernel_and_no_motor(arm, running):
    _, servo = running
    arm.follows = False
    arm.matrix = np.full((4, 4), math.nan)
    wait_until(lambda: not np.isfinite(servo.ticks[-1][1].position_m).all())
    time.sleep(5 * PERIOD_S)
    assert all(np.isfinite(target[0]).all() for target in arm.controller.targets)


def test_a_tick_that_raises_is_a_fault(arm, running, caplog):
    backend, servo = running
    servo.on_tick = lambda: 1 / 0
    wait_until(lambda: backend.fault() == "control_loop_died")
    assert "ZeroDivisionError" in caplog.text


def test_a_control_loop_that_dies_lets_the_arm_hold_where_it_is_and_is_not_recovered(arm, running):
    """The library went on pulling to the last target, wrench and all, and a recovery said that all was well."""
    backend, servo = running
    arm.follows = False
    servo.reference = far(arm)._replace(wrench=np.array([5.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    wait_until(lambda: arm.controller.targets[-1][0][0] - arm.pose[0] > 0.009)
    servo.on_tick = lambda: 1 / 0
    wait_until(lambda: backend.fault() == "control_loop_died")
    wait_until(lambda: np.abs(arm.controller.targets[-1][0] - arm.pose[:3]).max() < 1e-9)
    with pytest.raises(Refusal, match="start the robot server again"):
        backend.recover()
    assert backend.fault() == "control_loop_died"


def test_a_start_that_the_arm_refuses_leaves_nothing_behind(arm, make, monkeypatch):
    """The gripper's driver was left running."""

    def refuse(*_):
        raise RuntimeError("libfranka: command rejected")

    monkeypatch.setattr(fake_panda.Panda, "start_controller", refuse)
    gripper = Gripper()
    with pytest.raises(RobotError, match=f"arm at {IP}: it cannot be controlled: libfranka: command rejected"):
        make(gripper=gripper).start(Servo())
    assert gripper.calls[-2:] == ["start", "stop"]
    assert not [thread for thread in threading.enumerate() if thread.name == "panda-control-loop"]


def test_gains_are_taken_while_the_loop_changes_controllers(arm, make):
    """The call waited for the loop, on the event loop of the server: so did every stop."""
    backend = make()
    backend.start(Servo())
    with backend._arm:  # as the loop does
        caller = threading.Thread(target=backend.set_impedance, args=(ImpedanceParams(),))
        caller.start()
        caller.join(10.0)
        assert not caller.is_alive()


def test_the_load_is_told_while_nothing_controls_the_arm(arm, running):
    backend, _ = running
    backend.set_load(0.5, (0.0, 0.0, 0.05), (0.001, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.001))
    assert [call[0] for call in arm.calls][-3:] == ["stop", "load", "start"]
    assert arm.named("load")[0][1:3] == (0.5, [0.0, 0.0, 0.05])
    assert backend.fault() is None


def test_gripper_commands_reach_the_gripper_or_are_refused(make):
    gripper = Gripper()
    backend = make(gripper=gripper)
    backend.start(Servo())
    backend.set_gripper(0.5, 0.05, 20.0)
    assert gripper.calls[-2:] == ["start", ("move", 0.5, 0.05, 20.0)]
    assert backend.state().gripper == 0.25
    gripper.cause = "gripper_lost"
    with pytest.raises(Refusal, match="no longer obeys"):
        backend.set_gripper(0.5, 0.05, 20.0)
    backend.recover()
    assert "recover" not in gripper.calls  # the arm's recovery is not the gripper's
    assert backend.gripper_fault() == "gripper_lost"
    backend.recover_gripper()
    assert gripper.calls[-1] == "recover"
    backend.stop()
    assert gripper.calls[-1] == "stop"
    with pytest.raises(Refusal, match="without a gripper"):
        make().set_gripper(0.5, 0.05, 20.0)


def test_joint_limits_are_those_of_the_panda(make):
    limits = make().joint_limits()
    assert limits.low_rad == tuple(constants.JOINT_LIMITS_LOWER)
    assert limits.high_rad == tuple(constants.JOINT_LIMITS_UPPER)
    assert limits.speed_rad_s == (2.075, 2.075, 2.075, 2.075, 2.51, 2.51, 2.51)


def test_an_arm_at_fault_is_not_touched_at_start(arm, make):
    arm.reflex()
    with pytest.raises(RobotError, match=r"in a reflex .*cartesian_reflex"):
        make().start(Servo())
    assert bool(arm.errors)
    assert [call[0] for call in arm.calls] == ["connect"]


def test_stop_ends_the_thread_and_the_control_and_may_be_called_twice(arm, running):
    backend, _ = running
    backend.stop()
    backend.stop()
    assert arm.controller is None
    assert not [thread for thread in threading.enumerate() if thread.name == "panda-control-loop"]


def test_impedance_of_the_library_is_in_newtons_per_metre_and_of_the_half_angle():
    params = ImpedanceParams()
    np.testing.assert_array_equal(np.diag(impedance_matrix(params)), [2000.0] * 3 + [150.0] * 3)
    assert damping_ratio(params) == pytest.approx(0.995, abs=0.001)


def test_a_service_moves_it_and_a_reflex_stops_it_until_a_person_recovers_it(arm, make):
    service = RobotService(make(), SafetyLimits(state_timeout_s=5.0, backend_timeout_s=10.0))  # the machine may be slow
    service.start()
    try:
        epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
        x, y, z, *quaternion = service.state().tcp_pose
        goal = (x, y, z + 0.01, *quaternion)
        give_up_s = time.monotonic() + 10.0
        while abs(service.state().tcp_pose[2] - goal[2]) > 0.001:
            service.pose(PoseCommand(epoch=epoch, pose=goal))
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        arm.reflex()
        wait_until(lambda: service.state().mode is Mode.FAULT)
        assert service.state().fault == "reflex"
        with pytest.raises(Refusal, match="latched"):
            service.pose(PoseCommand(epoch=epoch, pose=goal))
        starts = len(arm.named("start"))
        service.recover(RecoverCommand(epoch=epoch, cause="reflex"))
        assert len(arm.named("start")) == starts + 1
        assert service.state().mode is Mode.HOLD
        service.stop()
        assert service.resume(EpochCommand(epoch=epoch)).mode is Mode.HOLD
    finally:
        service.close()


def test_a_service_ends_a_joint_reset_at_the_rest_posture(arm, make):
    arm.q = np.array(REST_Q) + 0.05
    arm.matrix = fake_panda.hand_pose(arm.q.tolist())
    service = RobotService(make())
    service.start()
    try:
        epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
        job = service.joint_reset(JointResetCommand(epoch=epoch))

        def has_ended():
            service.lease(LeaseRequest(action="renew", owner="test", epoch=epoch))
            return service.job(job.id).state != "running"

        wait_until(has_ended)
        assert service.job(job.id).state == "succeeded"
        wait_until(lambda: isinstance(arm.controller, fake_panda.CartesianImpedance))
        np.testing.assert_allclose(arm.q, REST_Q, atol=0.011)
    finally:
        service.close()
