"""An arm behind crisp_controllers and franka_ros2: the 1 kHz loop is theirs, the safety kernel runs in a thread here.

What the controller tracks is published in each tick: the reference behind the filter and the error clip, and the
wrench. The controller keeps the newest of both: should this process be killed, it holds the last target behind its own
error clip, and goes on pushing with the last wrench until a server is started again.
"""

import logging
import math
import threading
from enum import Enum
from typing import Any

from robot_servers.backend import JointLimits, Servo
from robot_servers.control_thread import ControlThread
from robot_servers.gain_ramp import PUSHING_N, GainRamp, check_no_integral
from robot_servers.grippers.interface import Gripper
from robot_servers.joint_move import JointMove
from robot_servers.kinematics_panda import REST_Q
from robot_servers.limits import Refusal, SafetyLimits, initial_impedance
from robot_servers.ros2 import controllers, names
from robot_servers.ros2.hand import RosHand
from robot_servers.ros2.io import Goal, RosIo, perform
from robot_servers.ros2.state import Reading, message, read
from robot_servers.rotations import rotated
from robot_servers.spring_target import spring_target
from robot_servers.target_filter import TargetFilter
from serl_core.errors import RobotError, SerlError
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3, Vector6

logger = logging.getLogger(__name__)

# 200 Hz: a target is up to 5 ms old when the next one comes, of the 20 ms that its filter takes anyway, and Python
# converts the large state message in a fraction of that. The controller's own error clip acts at 1 kHz.
PERIOD_S = 0.005
FIRST_STATE_S = 3.0
RECOVERY_S = 5.0
GAINS_PERIOD_S = 0.025  # between two sets of parameters: each is a service call
SLOWEST_RAD_S = 0.05  # of a point-to-point motion
REPEAT_S = 0.5  # what rarely changes is published this often: a subscriber may not have been found at first
NO_WRENCH: Vector6 = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

NUMERIC_FAULT, CONTROLLER_REFUSED = "numeric_fault", "controller_refused"

# franka_ros2 drives more than one model, and only the running arm says which: what every one of them can do.
LIMITS = JointLimits(
    low_rad=(-2.7437, -1.7628, -2.8973, -3.0421, -2.8065, 0.5445, -2.8973),
    high_rad=(2.7437, 1.7628, 2.8973, -0.1518, 2.8065, 3.7525, 2.8973),
    speed_rad_s=(2.0, 1.0, 1.5, 1.25, 2.51, 1.5, 2.51),
)


class JointResetBy(Enum):
    """What moves the joints in a joint reset."""

    TRAJECTORY = "trajectory"  # ros2_control's joint_trajectory_controller, along a path of ours
    PTP_MOTION = "ptp_motion"  # the arm's own point-to-point motion, by franka_ros2's action server


class Phase(Enum):
    """Who commands the arm."""

    TRACKING = "tracking"  # the Cartesian controller follows our targets
    SWITCHING = "switching"  # controllers change: nothing is commanded
    RESETTING = "resetting"  # the joint reset


class Ros2Backend:
    """One arm: `robot_servers.backend.RobotBackend`."""

    name = "ros2"
    is_simulated = False
    is_lockstep = False
    scene: str | None = None

    def __init__(
        self,
        io: RosIo,
        limits: SafetyLimits,
        *,
        has_hand: bool,
        gripper: Gripper | None = None,
        target_filter_s: float = 0.02,
        joint_reset_by: JointResetBy = JointResetBy.TRAJECTORY,
    ) -> None:
        """Store.

        Args:
            io: the node.
            limits: of the safety kernel, and the arm's own collision thresholds.
            has_hand: Franka's hand is at the flange, with its node.
            gripper: another one that is not driven through ROS.
            target_filter_s: time constant of the set-point's filter.
            joint_reset_by: what moves the joints in a joint reset.
        """
        self._io = io
        self._limits = limits
        self._gripper: Gripper | None = RosHand(io) if has_hand else gripper
        self._joint_reset_by = joint_reset_by
        self._filter = TargetFilter(target_filter_s)
        self._ramp = GainRamp(initial_impedance(limits))
        self._newest: Any = None  # the newest state message, replaced by the node's thread
        self._is_heard = threading.Event()
        self._seen: Any = None  # the one that the last tick was about
        self._reading: Reading | None = None
        self._servo: Servo | None = None
        self._fault: str | None = None
        self._phase = Phase.SWITCHING
        self._must_cancel = False
        self._goal: Goal | None = None
        self._move: JointMove | None = None
        self._is_pushing = False
        self._gains_s = self._repeated_s = 0.0
        self._is_setting = False  # a set of parameters is on its way
        self._switcher: threading.Thread | None = None  # goes back to the Cartesian controller after a joint reset
        self._arm = threading.Lock()  # held in a tick
        self._thread = ControlThread("ros2-control-loop", PERIOD_S, self._tick, self._die)

    def start(self, servo: Servo) -> None:
        """Join ROS, set the law and the gains, switch to the Cartesian controller, and hold the present pose.

        Raises:
            SerlError: ROS, the arm's nodes or a controller is not there, or the arm is not free; with the remedy.
        """
        self.stop()
        self._newest, self._reading, self._fault, self._servo = None, None, None, servo
        self._is_heard.clear()
        try:
            self._io.start()
            self._io.subscribe(names.ROBOT_STATE, self._take)
            self._reading = self._first_reading()
            self._ramp.settle()
            controllers.prepare(self._io, self._limits, self._ramp.params)
            self._activate([])
            if self._gripper is not None:
                self._gripper.start()
        except SerlError:
            self.stop()
            raise
        self._filter.restart(self._reading.pose)
        self._phase = Phase.TRACKING
        self._thread.start()

    def stop(self) -> None:
        """End the loop, any push and the node; the controller goes on holding the last target. Safe to call twice."""
        self._thread.stop()
        if self._is_pushing:
            self._push(None)
        if self._gripper is not None:
            self._gripper.stop()
        self._io.stop()
        self._phase = Phase.SWITCHING

    def joint_limits(self) -> JointLimits:
        """Return what every arm that franka_ros2 drives can do."""
        return LIMITS

    def now_s(self) -> float:
        """Return the arm's own clock at the newest reading."""
        return 0.0 if self._reading is None else self._reading.stamp_s

    def state(self) -> RobotState:
        """Return the newest reading."""
        if self._reading is None:
            raise RobotError("the arm has not been started", status=409)
        opening = 0.0 if self._gripper is None else self._gripper.position()
        return message(self._reading, gripper=opening, reference=self._filter.pose, fault=self._fault)

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Let gains and clips go to `params` with a time constant of 0.1 s; none rises while the arm pushes.

        Raises:
            Refusal: an integral gain: the controller has none.
        """
        check_no_integral(params, "crisp_controllers")
        with self._arm:
            self._ramp.set_goal(params)

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start moving the fingers to `position`, 0 closed .. 1 open.

        Raises:
            Refusal: there is no gripper, or it no longer obeys.
        """
        gripper = self._gripper
        if gripper is None:
            raise Refusal(409, "no_gripper", "this arm was started without a gripper (--gripper none)")
        cause = gripper.fault()
        if cause is not None:
            raise Refusal(503, cause, "the gripper no longer obeys; look at it, and start the robot server again")
        gripper.move(position, speed_m_s, force_n)

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Tell the arm its payload: it takes that only while no controller commands it, so control pauses.

        Raises:
            Refusal: the arm does not take it.
        """
        self._settle()
        self._require_sound()
        fields = {"mass": mass_kg, "center_of_mass": list(center_m), "load_inertia": list(inertia_kg_m2)}
        self._phase = Phase.SWITCHING
        try:
            controllers.switch(self._io, [], [names.CARTESIAN_CONTROLLER])
            controllers.request(self._io, names.SET_LOAD, fields, "the load")
        except RobotError as error:
            raise Refusal(409, "load_refused", str(error)) from None
        finally:
            self._resume([])

    def start_joint_reset(self) -> None:
        """Begin the joint-space move to the rest posture; the arm then stays there until it is cancelled.

        Raises:
            Refusal: the arm is at fault, or a controller cannot be switched.
        """
        self._settle()
        self._require_sound()
        reading = self._reading
        if reading is None:
            raise Refusal(503, "no_state", "the arm's state is not known yet")
        by_trajectory = self._joint_reset_by is JointResetBy.TRAJECTORY
        self._phase = Phase.SWITCHING
        try:
            theirs = [names.TRAJECTORY_CONTROLLER] if by_trajectory else []
            controllers.switch(self._io, theirs, [names.CARTESIAN_CONTROLLER])
        except RobotError as error:
            self._resume([])
            raise Refusal(409, "reset_refused", str(error)) from None
        move = JointMove(reading.measured.q.tolist(), REST_Q, self._limits.speed_m_s)
        self._move, self._must_cancel, self._phase = move, False, Phase.RESETTING
        if by_trajectory:
            fields = names.trajectory(reading.joint_names, move)
            self._goal = self._io.send_goal(names.FOLLOW_TRAJECTORY, fields, self._end_goal)
        else:
            # As fast as the trajectory on average, so that the tool stays below its limit too.
            speed_rad_s = max(SLOWEST_RAD_S, move.error_rad(reading.measured.q) / move.duration_s)
            self._goal = self._io.send_goal(names.PTP_MOTION, names.ptp_motion(REST_Q, speed_rad_s), self._end_goal)

    # The next two and `fault` take no lock: the servo calls them inside the tick, under locks of its own.

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""
        move, reading = self._move, self._reading
        return None if move is None or reading is None or self._must_cancel else move.error_rad(reading.measured.q)

    def cancel_joint_reset(self) -> None:
        """Go back to the Cartesian controller as soon as it is switched to, from the pose then measured on."""
        self._must_cancel = True

    def recover(self) -> None:
        """Clear the arm's error, and hold the present pose.

        Raises:
            Refusal: the error stays, or the controller does not start again.
        """
        self._settle()
        self._phase = Phase.SWITCHING
        if self._reading is not None and self._reading.trouble is not None:
            try:
                perform(self._io, names.ERROR_RECOVERY, {}, RECOVERY_S)
            except RobotError as error:
                raise Refusal(409, "still_faulted", str(error)) from None
        self._is_heard.clear()
        is_heard = self._is_heard.wait(FIRST_STATE_S)
        cause = read(self._newest).trouble if is_heard else "backend_lost"
        if cause is not None:
            raise Refusal(409, "still_faulted", f"the arm is still in {cause!r}; look at it and at its nodes' logs")
        self._fault = None
        self._resume([names.CARTESIAN_CONTROLLER])
        if self._fault is not None:
            raise Refusal(409, "still_faulted", "the Cartesian controller does not start; see controller_manager's log")
        if self._gripper is not None and self._gripper.fault() is not None:
            self._gripper.recover()

    def fault(self) -> str | None:
        """Return the latched cause: a reflex, a stop, or a controller that does not obey; or None."""
        return self._fault

    # ---- the control loop

    def _take(self, state: Any) -> None:
        self._newest = state
        self._is_heard.set()

    def _tick(self) -> bool:
        with self._arm:
            return self._step()

    def _step(self) -> bool:
        state, servo, last = self._newest, self._servo, self._reading
        if servo is None or last is None:
            return False
        if state is self._seen:
            return True  # no news: without ticks the service sees that the state is old
        self._seen = state
        reading = read(state)
        dt_s = reading.stamp_s - last.stamp_s
        if dt_s <= 0.0:
            return True
        self._reading = reading
        if self._fault is None and reading.trouble is not None:
            logger.error("the arm stopped obeying: %s", reading.trouble)
            self._fault = reading.trouble
        reference = servo(reading.stamp_s, reading.measured)
        if self._must_cancel or (self._move is not None and self._fault is not None):
            self._end_reset()
        if self._phase is not Phase.TRACKING or self._fault not in (None, NUMERIC_FAULT):
            self._filter.restart(reading.pose)
            if self._is_pushing:
                self._push(None)
            return True
        if self._fault is None and not self._filter.follow(reference, dt_s):
            self._fault = NUMERIC_FAULT
            self._filter.restart(reading.pose)
        if not self._ramp.is_settled:
            self._ramp_gains(reading)
        if math.isfinite(sum(reading.pose)):
            target = spring_target(self._filter.pose, reading.pose, self._ramp.params)
            self._io.publish(names.TARGET_POSE, names.pose_stamped(target))
            is_repeated = reading.stamp_s - self._repeated_s > REPEAT_S
            if reference.wrench is not None and self._fault is None:
                tool, push = reading.pose[3:], reference.wrench.tolist()
                self._push((*rotated(tool, push[:3]), *rotated(tool, push[3:])))
            elif self._is_pushing or is_repeated:
                self._push(None)
            if is_repeated:
                self._repeated_s = reading.stamp_s
                self._io.publish(names.TARGET_JOINT, names.joint_state(reading.joint_names, REST_Q))
        return True

    def _push(self, wrench: Vector6 | None) -> None:
        """Publish a wrench, base frame; None ends it: the controller keeps the newest for ever."""
        self._is_pushing = wrench is not None
        self._io.publish(names.TARGET_WRENCH, names.wrench_stamped(wrench or NO_WRENCH))

    def _ramp_gains(self, reading: Reading) -> None:
        since_s = reading.stamp_s - self._gains_s
        if self._is_setting or since_s < GAINS_PERIOD_S:
            return
        self._gains_s, self._is_setting = reading.stamp_s, True
        may_rise = math.hypot(*reading.wrench[:3]) <= PUSHING_N
        # After a pause the ramp goes on where it was, and makes up for nothing.
        params = self._ramp.advance(min(since_s, 2.0 * GAINS_PERIOD_S), may_rise=may_rise)
        self._io.call(names.SET_PARAMETERS, names.parameters(names.gains(params)), self._parameters_set)

    def _parameters_set(self, reply: Any | None) -> None:
        self._is_setting = False
        if reply is None or not all(result.successful for result in reply.results):
            logger.error("the Cartesian controller refused its gains")
            self._fault = self._fault or CONTROLLER_REFUSED

    # ---- controllers

    def _first_reading(self) -> Reading:
        if not self._is_heard.wait(FIRST_STATE_S):
            raise RobotError(
                f"no message on {names.ROBOT_STATE.name} within {FIRST_STATE_S:g} s; start franka_ros2 with its "
                "robot_state broadcaster, and check --ros-namespace and ROS_DOMAIN_ID"
            )
        reading = read(self._newest)
        controllers.check_free(reading.trouble)
        return reading

    def _activate(self, restart: list[str]) -> None:
        self._push(None)  # ends one that was left by a server that was killed
        controllers.activate(self._io, restart)

    def _resume(self, restart: list[str]) -> None:
        """Go back to the Cartesian controller; a failure is a fault."""
        try:
            self._activate(restart)
        except RobotError:
            logger.exception("the Cartesian controller does not start")
            self._fault = self._fault or CONTROLLER_REFUSED
            return
        self._phase = Phase.TRACKING

    # ---- the joint reset

    def _end_goal(self, result: Any | None) -> None:
        if result is None and self._move is not None and not self._must_cancel:
            logger.error("the joint reset's action failed or was refused")
            self._fault = self._fault or "joint_reset_blocked"

    def _forget_reset(self) -> None:
        goal, self._goal, self._move, self._must_cancel = self._goal, None, None, False
        if goal is not None:
            goal.cancel()

    def _end_reset(self) -> None:
        """Cancel what still runs and switch back, on a thread of its own: the control loop waits for no service."""
        was_resetting = self._move is not None
        self._forget_reset()
        if was_resetting:
            self._phase = Phase.SWITCHING
            self._switcher = threading.Thread(target=self._resume, args=([],), name="ros2-switch", daemon=True)
            self._switcher.start()

    def _settle(self) -> None:
        """Wait until a joint reset that was cancelled has made way."""
        with self._arm:
            if self._must_cancel:
                self._end_reset()
            switcher = self._switcher
        if switcher is not None:
            switcher.join(3.0 * controllers.SERVICE_S)

    def _require_sound(self) -> None:
        if self._fault is not None:
            cause = self._fault
            raise Refusal(423, "latched", f"the arm is at fault ({cause}); look, then /v1/recover", given=cause)

    def _die(self) -> None:
        self._fault = "control_loop_died"
