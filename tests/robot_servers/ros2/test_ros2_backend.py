import math
import threading
import time

import fake_ros
import msgspec
import numpy as np
import pytest
from panda_py import constants
from scipy.spatial.transform import Rotation

from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.backend import Reference
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.ros2 import Ros2Backend, controllers, gain_parameters, names
from robot_servers.ros2.backend import PERIOD_S
from robot_servers.ros2.joint_reset import JointResetBy
from robot_servers.service import RobotService
from serl_core.errors import RobotError
from serl_core.robots.messages import (
    ImpedanceParams,
    LeaseRequest,
    Mode,
    PoseCommand,
    RecoverCommand,
    WrenchCommand,
)


class Arm:
    """Publishes its state every 2 ms from a thread, as the broadcaster does, and follows the targets it hears of."""

    def __init__(self, io):
        self.io = io
        self.state = fake_ros.robot_state(0.0)
        self.follows = True
        self.is_frozen = False
        self._is_ending = threading.Event()
        self._lock = threading.Lock()  # guards the state
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._is_ending.set()
        self._thread.join()

    @property
    def pose(self):
        pose = self.state.o_t_ee.pose
        p, q = pose.position, pose.orientation
        return (p.x, p.y, p.z, q.x, q.y, q.z, q.w)

    def change(self, **fields):
        """Set fields of the state that is published from now on."""
        with self._lock:
            for name, value in fields.items():
                setattr(self.state, name, value)

    def place(self, q):
        with self._lock:
            self.state = fake_ros.robot_state(self.state.time, q)

    def _run(self):
        while not self._is_ending.wait(0.002):
            if self.is_frozen:
                continue
            with self._lock:
                self.state = state = self._next(self.state)
            if names.ROBOT_STATE in self.io.on_message:
                self.io.on_message[names.ROBOT_STATE](state)

    def _next(self, old):
        pose, targets = self.pose, self.io.messages(names.TARGET_POSE)
        if self.follows and targets:
            goal = target_of(targets[-1])
            pose = (*(at + 0.2 * (to - at) for at, to in zip(pose[:3], goal.tolist(), strict=True)), *pose[3:])
        state = fake_ros.robot_state(time.monotonic(), old.measured_joint_state.position, pose)
        for name in ("robot_mode", "current_errors", "o_f_ext_hat_k"):
            setattr(state, name, getattr(old, name))
        return state


class Servo:
    def __init__(self):
        self.ticks = []
        self.reference = None

    def __call__(self, now_s, measured):
        self.ticks.append((now_s, measured))
        return Reference(measured.position_m, measured.quaternion) if self.reference is None else self.reference


def wait_until(condition, timeout_s=10.0):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not come to pass"
        time.sleep(0.002)


@pytest.fixture
def io():
    return fake_ros.FakeIo()


@pytest.fixture
def arm(io):
    arm = Arm(io)
    arm.start()
    yield arm
    arm.stop()


@pytest.fixture
def make(io, arm):
    backends = []

    def make(**options):
        options = {"has_hand": False, **options}
        backends.append(Ros2Backend(io, SafetyLimits(), **options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.stop()


@pytest.fixture
def running(make):
    backend, servo = make(), Servo()
    backend.start(servo)
    wait_until(lambda: len(servo.ticks) >= 3)
    return backend, servo


def target_of(message):
    position = message.pose.position
    return np.array([position.x, position.y, position.z])


def parameters_of(io):
    """Return those that were sent last."""
    return {each.name: each.value.double_value for each in io.requests(names.SET_PARAMETERS)[-1].parameters}


def switches(io):
    return [(each.activate_controllers, each.deactivate_controllers) for each in io.requests(names.SWITCH_CONTROLLER)]


def far(arm, dx_m=0.05):
    x, y, z, *quaternion = arm.pose
    return Reference(np.array([x + dx_m, y, z]), np.array(quaternion))


def test_thresholds_law_and_gains_are_set_before_the_controller_is_switched_on(io, running):
    limits = SafetyLimits()
    services = [service for service, _ in io.calls]
    assert services == [
        names.SWITCH_CONTROLLER, names.SET_COLLISION, names.SET_PARAMETERS, names.SWITCH_CONTROLLER,
    ]  # fmt: skip
    (collision,) = io.requests(names.SET_COLLISION)
    assert collision.upper_torque_thresholds_nominal == list(limits.collision_torque_nm)
    assert collision.lower_force_thresholds_nominal == list(limits.collision_force_n)
    (parameters,) = io.requests(names.SET_PARAMETERS)
    values = {each.name: each.value for each in parameters.parameters}
    assert set(values) == {*names.LAW, *names.gains(ImpedanceParams())}
    assert values["limit_error"].bool_value
    assert values["task.k_pos_x"].double_value == 2000.0
    both = [names.CARTESIAN_CONTROLLER, names.TRAJECTORY_CONTROLLER]
    assert switches(io) == [([], both), (both[:1], both[1:])]


def test_targets_are_in_the_base_frame_and_start_where_the_arm_is(io, arm, running):
    wait_until(lambda: io.messages(names.TARGET_POSE))
    first = io.messages(names.TARGET_POSE)[0]
    assert first.header.frame_id == "base"
    np.testing.assert_allclose(target_of(first), arm.pose[:3], atol=1e-6)


def test_no_target_is_further_from_the_arm_than_the_error_clip(io, arm, running):
    _, servo = running
    arm.follows = False
    servo.reference = far(arm)
    ahead = lambda: target_of(io.messages(names.TARGET_POSE)[-1])[0] - arm.pose[0]  # noqa: E731
    wait_until(lambda: ahead() > 0.0079)
    time.sleep(10 * PERIOD_S)
    assert ahead() == pytest.approx(0.008)


def test_a_wrench_goes_out_in_the_base_frame_and_its_end_is_a_zero(io, arm, running):
    _, servo = running
    x, y, z, *_ = arm.pose
    turned = (Rotation.from_euler("z", 90, degrees=True) * Rotation.from_quat([1.0, 0.0, 0.0, 0.0])).as_quat()
    arm.change(o_t_ee=fake_ros.robot_state(0.0, REST_Q, (x, y, z, *turned)).o_t_ee)
    wait_until(lambda: abs(servo.ticks[-1][1].quaternion @ turned) > 0.999)
    sent = len(io.messages(names.TARGET_WRENCH))
    servo.reference = Reference(np.array([x, y, z]), turned, np.array([10.0, 0.0, 5.0, 1.0, 0.0, 0.0]))
    wait_until(lambda: len(io.messages(names.TARGET_WRENCH)) > sent + 2)
    wrench = io.messages(names.TARGET_WRENCH)[-1]
    assert wrench.header.frame_id == "base"
    force, torque = wrench.wrench.force, wrench.wrench.torque
    np.testing.assert_allclose((force.x, force.y, force.z), (0.0, 10.0, -5.0), atol=1e-6)
    np.testing.assert_allclose((torque.x, torque.y, torque.z), (0.0, 1.0, 0.0), atol=1e-6)
    servo.reference = None
    wait_until(lambda: io.messages(names.TARGET_WRENCH)[-1] == fake_ros.WrenchStamped(fake_ros.Header(frame_id="base")))


def test_a_server_that_ends_leaves_no_wrench_behind(io, arm, running):
    backend, servo = running
    x, y, z, *quaternion = arm.pose
    push = np.array([10.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    servo.reference = Reference(np.array([x, y, z]), np.array(quaternion), push)
    wait_until(lambda: io.messages(names.TARGET_WRENCH)[-1].wrench.force.x == pytest.approx(10.0))
    backend.stop()
    assert io.messages(names.TARGET_WRENCH)[-1].wrench.force.x == 0.0
    assert not io.is_started


def test_the_rest_posture_is_the_controllers_own_and_is_told_again(io, running):
    wait_until(lambda: len(io.messages(names.TARGET_JOINT)) >= 2)
    posture = io.messages(names.TARGET_JOINT)[-1]
    assert (posture.name, posture.position) == (fake_ros.JOINTS, list(REST_Q))


def test_gains_go_over_as_parameters_in_steps(io, running):
    backend, _ = running
    before = len(io.requests(names.SET_PARAMETERS))
    backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), translational_stiffness_n_m=1000.0))

    def stiffness():
        requests = io.requests(names.SET_PARAMETERS)[before:]
        return [each.value.double_value for r in requests for each in r.parameters if each.name == "task.k_pos_x"]

    wait_until(lambda: stiffness() and stiffness()[-1] == 1000.0)
    assert stiffness() == sorted(stiffness(), reverse=True)
    assert stiffness()[0] > 1500.0
    with pytest.raises(Refusal, match="no integral term"):
        backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), rotational_ki=1.0))


def test_gains_that_the_controller_refuses_are_a_fault(io, running):
    backend, _ = running
    io.refused.add(names.SET_PARAMETERS)
    backend.set_impedance(msgspec.structs.replace(ImpedanceParams(), translational_stiffness_n_m=1000.0))
    wait_until(lambda: backend.fault() == "controller_refused")


def test_a_reflex_is_latched_and_nothing_clears_it_but_recover(io, arm, running):
    backend, servo = running
    arm.change(robot_mode=4)
    wait_until(lambda: backend.fault() == "reflex")
    sent, ticks = len(io.messages(names.TARGET_POSE)), len(servo.ticks)
    wait_until(lambda: len(servo.ticks) > ticks + 5)
    assert len(io.messages(names.TARGET_POSE)) == sent
    assert io.goals == []
    arm.change(robot_mode=2)  # somebody cleared it elsewhere: it stays latched here
    ticks = len(servo.ticks)
    wait_until(lambda: len(servo.ticks) > ticks + 5)
    assert backend.fault() == "reflex"


def test_recover_clears_the_arms_error_and_starts_the_controller_anew_where_the_arm_is(io, arm, running):
    backend, _ = running
    arm.change(robot_mode=4)
    wait_until(lambda: backend.fault() == "reflex")
    sent, before = len(io.messages(names.TARGET_POSE)), len(switches(io))

    def cleared(action, fields, on_end, send=io.send_goal):
        arm.change(robot_mode=1)
        return send(action, fields, on_end)

    io.send_goal = cleared
    backend.recover()
    assert [goal.action for goal in io.goals] == [names.ERROR_RECOVERY]
    assert backend.fault() is None
    cartesian = [names.CARTESIAN_CONTROLLER]
    assert switches(io)[before:] == [([], cartesian), (cartesian, [names.TRAJECTORY_CONTROLLER])]
    wait_until(lambda: len(io.messages(names.TARGET_POSE)) > sent)
    np.testing.assert_allclose(target_of(io.messages(names.TARGET_POSE)[sent]), arm.pose[:3], atol=1e-6)


def test_a_reflex_that_stays_is_said_to(io, arm, running):
    backend, _ = running
    arm.change(robot_mode=4)
    wait_until(lambda: backend.fault() == "reflex")
    with pytest.raises(Refusal, match="still in 'reflex'"):
        backend.recover()
    assert backend.fault() == "reflex"


def test_a_state_that_stops_coming_stops_the_ticks(io, arm, running):
    backend, servo = running
    arm.is_frozen = True
    ticks = len(servo.ticks)
    time.sleep(15 * PERIOD_S)
    assert len(servo.ticks) <= ticks + 2  # what was under way
    assert backend.fault() is None


def test_a_reference_that_is_not_finite_is_a_fault_and_the_arm_holds(io, arm, running):
    backend, servo = running
    servo.reference = Reference(np.array([math.nan, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    wait_until(lambda: backend.fault() == "numeric_fault")
    sent = len(io.messages(names.TARGET_POSE))
    wait_until(lambda: len(io.messages(names.TARGET_POSE)) > sent + 3)
    assert np.isfinite([target_of(each) for each in io.messages(names.TARGET_POSE)]).all()
    np.testing.assert_allclose(target_of(io.messages(names.TARGET_POSE)[-1]), arm.pose[:3], atol=1e-3)


def test_the_load_is_told_while_no_controller_commands_the_arm(io, running):
    backend, _ = running
    before = len(io.calls)
    backend.set_load(0.5, (0.0, 0.0, 0.05), (0.001, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.001))
    services = [service for service, _ in io.calls[before:]]
    assert services == [names.SWITCH_CONTROLLER, names.SET_LOAD, names.SWITCH_CONTROLLER]
    (load,) = io.requests(names.SET_LOAD)
    assert (load.mass, load.center_of_mass, load.load_inertia[0]) == (0.5, [0.0, 0.0, 0.05], 0.001)
    io.refused.add(names.SET_LOAD)
    with pytest.raises(Refusal, match="refused the load: not in this mode"):
        backend.set_load(0.5, (0.0, 0.0, 0.05), (0.0,) * 9)
    sent = len(io.messages(names.TARGET_POSE))
    wait_until(lambda: len(io.messages(names.TARGET_POSE)) > sent)  # it holds again


@pytest.mark.parametrize("by", JointResetBy)
def test_joint_reset_hands_the_arm_over_and_takes_it_back(io, arm, make, by):
    arm.follows = False
    arm.place(tuple(angle + 0.2 for angle in REST_Q))
    backend, servo = make(joint_reset_by=by), Servo()
    backend.start(servo)
    wait_until(lambda: servo.ticks)
    before = len(switches(io))
    backend.start_joint_reset()
    is_trajectory = by is JointResetBy.TRAJECTORY
    activated = [names.TRAJECTORY_CONTROLLER] if is_trajectory else []
    assert switches(io)[before:] == [(activated, [names.CARTESIAN_CONTROLLER])]
    (goal,) = io.goals
    assert goal.action == (names.FOLLOW_TRAJECTORY if is_trajectory else names.PTP_MOTION)
    assert backend.joint_reset_error_rad() == pytest.approx(0.2)
    ticks, sent = len(servo.ticks), len(io.messages(names.TARGET_POSE))
    wait_until(lambda: len(servo.ticks) > ticks + 3)  # the servo is called, unheeded
    assert len(io.messages(names.TARGET_POSE)) <= sent + 1  # one may have been under way
    arm.place(REST_Q)
    goal.on_end(object())
    wait_until(lambda: backend.joint_reset_error_rad() < 1e-6)
    backend.cancel_joint_reset()
    assert backend.joint_reset_error_rad() is None
    wait_until(lambda: len(switches(io)) == before + 2)
    assert switches(io)[-1] == ([names.CARTESIAN_CONTROLLER], [names.TRAJECTORY_CONTROLLER])
    sent = len(io.messages(names.TARGET_POSE))
    wait_until(lambda: len(io.messages(names.TARGET_POSE)) > sent)
    np.testing.assert_allclose(target_of(io.messages(names.TARGET_POSE)[-1]), arm.pose[:3], atol=1e-6)


def test_a_cancelled_joint_reset_cancels_its_goal_and_the_next_one_waits_for_the_way_back(io, arm, running):
    backend, _ = running
    arm.place(tuple(angle + 0.2 for angle in REST_Q))
    backend.start_joint_reset()
    backend.cancel_joint_reset()
    backend.start_joint_reset()
    assert [goal.is_cancelled for goal in io.goals] == [True, False]
    back, there = switches(io)[-2:]
    assert back[0] == [names.CARTESIAN_CONTROLLER]
    assert there[0] == [names.TRAJECTORY_CONTROLLER]
    assert backend.fault() is None


def test_a_joint_reset_that_fails_is_a_fault(io, arm, running):
    backend, _ = running
    backend.start_joint_reset()
    io.goals[0].on_end(None)
    wait_until(lambda: backend.fault() == "joint_reset_blocked")
    with pytest.raises(Refusal, match="at fault"):
        backend.start_joint_reset()


def test_a_controller_that_is_not_there_refuses_the_joint_reset_and_the_arm_holds_on(io, running):
    backend, _ = running
    io.refused.add(names.SWITCH_CONTROLLER)
    with pytest.raises(Refusal, match=r"did not switch.*load and configure"):
        backend.start_joint_reset()
    assert backend.fault() == "controller_refused"  # it did not come back either


@pytest.mark.parametrize(
    ("mode", "said"),
    [(4, "in a reflex.*error_recovery.*start again"), (5, "user stop"), (3, "unlock its joints")],
)
def test_an_arm_that_is_not_free_is_refused_untouched(io, arm, make, mode, said):
    arm.change(robot_mode=mode)
    with pytest.raises(RobotError, match=said):
        make().start(Servo())
    assert io.calls == []
    assert io.published == []
    assert not io.is_started


def test_a_start_without_the_arms_nodes_says_what_to_start(io, monkeypatch):
    monkeypatch.setattr("robot_servers.ros2.backend.FIRST_STATE_S", 0.05)
    backend = Ros2Backend(io, SafetyLimits(), has_hand=False)
    with pytest.raises(RobotError, match=r"no message on franka_robot_state_broadcaster/robot_state.*--ros-namespace"):
        backend.start(Servo())
    assert not io.is_started


def test_a_start_whose_parameters_are_refused_names_them(io, make):
    io.refused.add(names.SET_PARAMETERS)
    with pytest.raises(RobotError, match=r"cartesian_impedance_controller refused the parameters limit_error, "):
        make().start(Servo())


def test_a_service_that_nobody_offers_is_named(io, make):
    io.silent.add(names.SET_COLLISION)
    with pytest.raises(RobotError, match=r"service_server/set_force_torque_collision_behavior .*no answer"):
        make().start(Servo())


def test_joint_limits_are_inside_those_of_every_model(make):
    limits = make().joint_limits()
    for model in ("", "_FR3", "_FR3_5_9"):
        assert all(np.array(limits.low_rad) >= getattr(constants, f"JOINT_LIMITS_LOWER{model}"))
        assert all(np.array(limits.high_rad) <= getattr(constants, f"JOINT_LIMITS_UPPER{model}"))
    assert all((np.array(REST_Q) > limits.low_rad) & (np.array(REST_Q) < limits.high_rad))


def test_hand_commands_go_through_its_node(io, make):
    backend = make(has_hand=True)
    backend.start(Servo())
    with pytest.raises(Refusal, match="no longer obeys"):
        backend.set_gripper(1.0, 0.05, 20.0)
    io.on_message[names.HAND_JOINTS](fake_ros.JointState(position=[0.02, 0.02]))
    backend.set_gripper(1.0, 0.05, 20.0)
    assert io.goals[-1].action == names.HAND_MOVE
    assert backend.state().gripper == pytest.approx(0.5)
    with pytest.raises(Refusal, match="without a gripper"):
        make().set_gripper(1.0, 0.05, 20.0)


def ros2_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ros2-")]


def test_gains_whose_answer_never_comes_are_a_fault(io, arm, running, monkeypatch):
    """All later gains were accepted, and never sent: the driver waited for one answer for ever."""
    monkeypatch.setattr(gain_parameters, "ANSWER_S", 0.1)
    backend, _ = running
    io.lost.add(names.SET_PARAMETERS)
    backend.set_impedance(ImpedanceParams(translational_stiffness_n_m=1000.0))
    wait_until(lambda: backend.fault() == "controller_refused")
    io.lost.clear()
    backend.recover()
    wait_until(lambda: parameters_of(io)["task.k_pos_x"] == 1000.0)
    assert backend.fault() is None


def test_a_server_that_ends_lets_the_arm_hold_where_it_is(io, arm, running):
    """The controller went on pulling to the last target: with up to the clip's whole force, for ever."""
    backend, servo = running
    arm.follows = False
    servo.reference = far(arm)
    wait_until(lambda: target_of(io.messages(names.TARGET_POSE)[-1])[0] - arm.pose[0] > 0.007)
    backend.stop()
    np.testing.assert_allclose(target_of(io.messages(names.TARGET_POSE)[-1]), arm.pose[:3], atol=1e-9)


def test_a_control_loop_that_dies_leaves_no_push_and_no_pull_and_is_not_recovered(io, arm, running):
    """The controller kept the last wrench for ever, and a recovery said that all was well."""
    backend, servo = running
    arm.follows = False
    servo.reference = far(arm)._replace(wrench=np.array([5.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    wait_until(lambda: any(each.wrench.force.x > 4.9 for each in io.messages(names.TARGET_WRENCH)))
    servo.reference = "none at all"
    wait_until(lambda: backend.fault() == "control_loop_died")
    wait_until(lambda: io.messages(names.TARGET_WRENCH)[-1].wrench.force.x == 0.0)
    wait_until(lambda: abs(target_of(io.messages(names.TARGET_POSE)[-1]) - arm.pose[:3]).max() < 1e-9)
    with pytest.raises(Refusal, match="start the robot server again"):
        backend.recover()
    assert backend.fault() == "control_loop_died"


@pytest.mark.parametrize("error", [RobotError("not there"), ValueError("unforeseen")])
def test_a_way_back_from_a_joint_reset_that_fails_is_a_fault(io, arm, running, monkeypatch, error):
    """What was not foreseen ended its thread: the arm obeyed nobody any more, and there was no fault."""
    backend, _ = running
    backend.start_joint_reset()

    def fail(*_):
        raise error

    monkeypatch.setattr(io, "call", fail)
    backend.cancel_joint_reset()
    wait_until(lambda: backend.fault() == "controller_refused")


def test_a_joint_reset_whose_goal_cannot_be_sent_is_refused_and_the_arm_tracks_on(io, arm, running, monkeypatch):
    """The driver believed that a joint reset ran, and told the arm nothing any more."""
    backend, _ = running

    def fail(*_):
        raise RobotError("FollowJointTrajectory has no field 'trajectory'")

    monkeypatch.setattr(io, "send_goal", fail)
    with pytest.raises(Refusal, match="no field 'trajectory'"):
        backend.start_joint_reset()
    assert backend.joint_reset_error_rad() is None
    count = len(io.messages(names.TARGET_POSE))
    wait_until(lambda: len(io.messages(names.TARGET_POSE)) > count + 3)


def test_stop_waits_for_a_way_back_that_is_under_way_and_leaves_no_thread(io, arm, running, monkeypatch):
    """The way back went on in a node that had been ended."""
    backend, _ = running
    monkeypatch.setattr(controllers, "SERVICE_S", 0.3)
    backend.start_joint_reset()
    io.lost.add(names.SWITCH_CONTROLLER)
    backend.cancel_joint_reset()
    wait_until(lambda: "ros2-switch" in ros2_threads())
    backend.stop()
    assert ros2_threads() == []


def test_a_start_that_fails_for_any_reason_leaves_nothing_behind(io, arm, make, monkeypatch):
    """Only errors of our own ended the node again."""

    def fail(*_):
        raise ValueError("unforeseen")

    monkeypatch.setattr(io, "subscribe", fail)
    with pytest.raises(ValueError, match="unforeseen"):
        make().start(Servo())
    assert not io.is_started
    assert ros2_threads() == []


def test_a_service_moves_it_and_a_reflex_stops_it_until_a_person_recovers_it(io, arm, make):
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
        service.wrench(WrenchCommand(epoch=epoch, wrench=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)))
        wait_until(lambda: any(each.wrench.force.x > 0.9 for each in io.messages(names.TARGET_WRENCH)))
        arm.change(robot_mode=4)
        wait_until(lambda: service.state().mode is Mode.FAULT)
        assert service.state().fault == "reflex"
        wait_until(lambda: io.messages(names.TARGET_WRENCH)[-1].wrench.force.x == 0.0)  # later in the same tick
        arm.change(robot_mode=1)
        service.recover(RecoverCommand(epoch=epoch, cause="reflex"))
        assert service.state().mode is Mode.HOLD
    finally:
        service.close()
