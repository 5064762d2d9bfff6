"""A Panda (FER) through panda-python: libfranka's 1 kHz loop runs in its C++ threads, the safety kernel in one of ours.

panda-python's Cartesian impedance pulls in the base frame with K * (target - measured), half the angle for rotation
as here, and has neither error clip nor wrench: both are part of the target that it is given in every tick
(`spring_target`). Its damping is 2 * ratio * sqrt(K) with one ratio for translation and rotation, so that
`rotational_damping_nms_rad` is not heeded. Every start of one of its controllers clears the arm's errors, hence none
is started on an arm in a reflex unless a client asked to recover.
"""

import logging
import math
import threading

import panda_py
from panda_py import constants

from robot_servers.arm_parts.control_thread import ControlThread
from robot_servers.arm_parts.flange import Flange
from robot_servers.arm_parts.gain_ramp import PUSHING_N, GainRamp, check_no_integral
from robot_servers.arm_parts.joint_move import JointMove
from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.arm_parts.spring_target import spring_target
from robot_servers.arm_parts.state_message import message
from robot_servers.arm_parts.target_filter import TargetFilter
from robot_servers.backend import JointLimits, Servo
from robot_servers.grippers.interface import Gripper
from robot_servers.impedance_limits import initial_impedance
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.panda.connect import connect
from robot_servers.panda.control import CONTROLLER_ENDED, PandaControl, damping_ratio
from robot_servers.panda.reading import PandaReading, read, trouble
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3, Vector7

logger = logging.getLogger(__name__)

# 250 Hz: at 0.25 m/s the arm leaves the clip's centre by 1 mm per tick, so a spring of 2000 N/m exceeds its clip by at
# most 2 N, for 4 ms. A tick takes 0.16 ms: twice as often would cost another 4 % of a core and win 1 N.
PERIOD_S = 0.004
SPEED_RAD_S: Vector7 = (2.075, 2.075, 2.075, 2.075, 2.51, 2.51, 2.51)  # 0.1 below where a Panda stops itself

CONNECTION_LOST, NUMERIC_FAULT, DIED = "connection_lost", "numeric_fault", "control_loop_died"


class PandaBackend:
    """One Panda: `robot_servers.backend.RobotBackend`."""

    name = "panda"
    is_simulated = False
    is_lockstep = False
    scene: str | None = None

    def __init__(
        self,
        robot_ip: str,
        limits: SafetyLimits,
        *,
        gripper: Gripper | None,
        target_filter_s: float = 0.02,
        enforce_realtime: bool = True,
    ) -> None:
        """Store.

        Args:
            robot_ip: of the control box.
            limits: of the safety kernel, and the arm's own collision thresholds.
            gripper: at the flange; None for none.
            target_filter_s: time constant of the set-point's filter.
            enforce_realtime: refuse a kernel without real-time scheduling.
        """
        self._robot_ip = robot_ip
        self._limits = limits
        self._flange = Flange(gripper)
        self._enforce_realtime = enforce_realtime
        # The last of the time constant is spent in the library's own 1 kHz filter: it smooths the steps between ticks.
        smoothing_s = min(PERIOD_S, target_filter_s)
        self._filter = TargetFilter(target_filter_s - smoothing_s)
        self._control = PandaControl(smoothing_s)
        self._params = self._goal = initial_impedance(limits)  # the newest asked for, and what the gains go to
        self._ramp = GainRamp(self._params)
        self._arm = threading.RLock()  # held in a tick, and by whoever starts or stops a controller
        self._panda: panda_py.Panda | None = None
        self._joint_move: JointMove | None = None
        self._must_cancel = False
        self._move_s = 0.0
        self._reading: PandaReading | None = None
        self._fault: str | None = None
        self._servo: Servo | None = None
        self._thread = ControlThread("panda-control-loop", PERIOD_S, self._tick, self._die)

    def start(self, servo: Servo) -> None:
        """Connect and hold the present pose.

        Raises:
            SerlError: the arm cannot be controlled from here, with the remedy; it was not moved.
        """
        self.stop()
        try:
            panda = connect(self._robot_ip, self._limits, enforce_realtime=self._enforce_realtime)
            self._flange.start()
            with self._arm:
                self._panda, self._servo, self._fault = panda, servo, None
                self._ramp.settle()
                self._reading = read(panda.get_state(), panda.get_model())
                self._begin_impedance(panda)
        except BaseException as error:
            self.stop()
            if isinstance(error, RuntimeError):
                raise RobotError(f"arm at {self._robot_ip}: it cannot be controlled: {error}") from None
            raise
        self._thread.start()

    def stop(self) -> None:
        """End the control; the arm's brakes hold it. Safe to call twice."""
        self._thread.stop()
        with self._arm:
            panda, self._panda, self._joint_move = self._panda, None, None
            self._control.forget()
        if panda is not None:
            try:
                panda.stop_controller()
            except RuntimeError as error:
                logger.warning("the arm's controller did not end in order: %s", error)
        self._flange.stop()

    def joint_limits(self) -> JointLimits:
        """Return the Panda's; `start` refuses an arm with others."""
        low, high = constants.JOINT_LIMITS_LOWER.tolist(), constants.JOINT_LIMITS_UPPER.tolist()
        return JointLimits(low_rad=tuple(low), high_rad=tuple(high), speed_rad_s=SPEED_RAD_S)

    def now_s(self) -> float:
        """Return the arm's own clock at the newest reading."""
        return 0.0 if self._reading is None else self._reading.stamp_s

    def state(self) -> RobotState:
        """Return the newest reading."""
        if self._reading is None:
            raise RobotError("the arm has not been started", status=409)
        return message(self._reading, gripper=self._flange.position(), reference=self._filter.pose, fault=self._fault)

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Let gains and clips go to `params` with a time constant of 0.1 s; none rises while the arm pushes.

        Raises:
            Refusal: an integral gain: the arm's law has none.
        """
        check_no_integral(params, "the Panda")
        turning = 2.0 * damping_ratio(params) * math.sqrt(params.rotational_stiffness_nm_rad)
        logger.info(
            "rotational damping %.3g Nms/rad, as the arm's law makes it; asked for were %.3g",
            turning,
            params.rotational_damping_nms_rad,
        )
        self._params = params  # the control loop takes it up: nobody waits for the loop, which may change controllers

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start moving the fingers to `position`, 0 closed .. 1 open.

        Raises:
            Refusal: there is no gripper, or it no longer obeys.
        """
        self._flange.move(position, speed_m_s, force_n)

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Tell the arm its payload: it takes that only while nothing controls it, so control pauses for a moment.

        Raises:
            Refusal: the arm does not take it.
        """
        with self._arm:
            panda = self._connected()
            self._require_sound()
            try:
                panda.stop_controller()
                panda.get_robot().set_load(mass_kg, list(center_m), list(inertia_kg_m2))
            except RuntimeError as error:
                raise Refusal(409, "load_refused", f"the arm did not take the load: {error}") from None
            finally:
                self._restart(panda)

    def start_joint_reset(self) -> None:
        """Begin the straight joint-space move to the rest posture; the arm then stays there until it is cancelled.

        Raises:
            Refusal: the arm is at fault, or does not take the controller.
        """
        with self._arm:
            panda = self._connected()
            self._require_sound()
            q = read(panda.get_state(), panda.get_model()).measured.q
            move = JointMove(q.tolist(), REST_Q, self._limits.speed_m_s)
            try:
                panda.stop_controller()
                self._control.hold_joints(panda, q)
            except RuntimeError as error:
                self._restart(panda)
                raise Refusal(409, "reset_refused", f"the arm did not take the joint move: {error}") from None
            self._joint_move, self._must_cancel, self._move_s = move, False, 0.0

    # The next two and `fault` take no lock: the servo calls them inside the tick, under locks of its own.

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""
        move, reading = self._joint_move, self._reading
        return None if move is None or reading is None or self._must_cancel else move.error_rad(reading.measured.q)

    def cancel_joint_reset(self) -> None:
        """Go back to the impedance law in this tick or the next, from the pose then measured on."""
        self._must_cancel = True

    def recover(self) -> None:
        """Clear the arm's error and hold the present pose.

        Raises:
            Refusal: the connection is gone, or the error stays.
        """
        if self._fault == DIED:
            raise Refusal(409, "still_faulted", "the control loop died, see the log; start the robot server again")
        with self._arm:
            panda = self._connected()
            try:
                panda.stop_controller()
                panda.recover()
                panda.refresh_state()
                cause = trouble(panda.get_state())
                if cause is not None:
                    raise Refusal(409, "still_faulted", f"the arm is still in {cause!r}: {panda.get_state()!r:.200}")
                self._begin_impedance(panda)
            except RuntimeError as error:
                raise Refusal(409, "still_faulted", f"the arm did not recover: {error}") from None
            self._fault = None

    def gripper_fault(self) -> str | None:
        """Return why the gripper no longer obeys, such as ``gripper_lost``, or None; the arm goes on."""
        return self._flange.fault()

    def recover_gripper(self) -> None:
        """Clear the gripper's fault and connect it again; returns at once."""
        self._flange.recover()

    def fault(self) -> str | None:
        """Return the latched cause: a reflex, a stop, the lost connection or one of this driver's; or None."""
        return self._fault

    # ---- the control loop

    def _tick(self) -> bool:
        with self._arm:
            panda, servo, last = self._panda, self._servo, self._reading
            if panda is None or servo is None or last is None:
                return False
            try:
                panda.refresh_state()  # while a controller runs, its thread does
                state = panda.get_state()
                is_moving = panda.is_moving()
                reading = read(state, panda.get_model())
            except RuntimeError as error:
                return self._lose(servo, last, error)
            dt_s = reading.stamp_s - last.stamp_s
            if dt_s <= 0.0:
                return True  # no news: without ticks the service sees that the state is old
            self._reading = reading
            if self._fault is None:
                self._fault = trouble(state) or self._control.ended(is_moving, reading.stamp_s)
                if self._fault is not None:
                    logger.error("the arm stopped obeying: %s %r", self._fault, state.last_motion_errors)
            reference = servo(reading.stamp_s, reading.measured)
            if self._must_cancel:
                self._end_joint_move(panda)
            try:
                if self._joint_move is not None:
                    self._follow_joint_move(panda, self._joint_move, reading, dt_s)
                elif self._fault is None:
                    if not self._filter.follow(reference, dt_s):
                        self._fault = NUMERIC_FAULT
                        self._filter.restart(reading.pose)
                    wrench = None if reference.wrench is None or self._fault else reference.wrench.tolist()
                    self._command(reading, wrench, dt_s)
                elif self._fault != NUMERIC_FAULT:
                    self._filter.restart(reading.pose)
            except RuntimeError as error:
                logger.error("the arm took no command: %s", error)
                self._fault = self._fault or CONTROLLER_ENDED
            return True

    def _command(self, reading: PandaReading, wrench: list[float] | None, dt_s: float) -> None:
        if self._params is not self._goal:
            self._goal = self._params
            self._ramp.set_goal(self._goal)
        if not self._ramp.is_settled:
            may_rise = math.hypot(*reading.wrench[:3]) <= PUSHING_N
            self._control.set_gains(self._ramp.advance(dt_s, may_rise=may_rise))
        if math.isfinite(sum(reading.pose)):
            self._control.pull(spring_target(self._filter.pose, reading.pose, self._ramp.params, wrench))

    def _follow_joint_move(self, panda: panda_py.Panda, move: JointMove, reading: PandaReading, dt_s: float) -> None:
        self._filter.restart(reading.pose)
        self._move_s += dt_s
        move.watch(self._move_s, reading.measured.q, dt_s)
        if move.is_blocked and self._fault is None:
            self._fault = "joint_reset_blocked"
        if self._fault is not None:
            self._end_joint_move(panda)
        else:
            self._control.turn(*move.at(self._move_s))

    def _end_joint_move(self, panda: panda_py.Panda) -> None:
        was_moving, self._joint_move, self._must_cancel = self._joint_move is not None, None, False
        if was_moving:
            self._restart(panda)

    def _begin_impedance(self, panda: panda_py.Panda) -> None:
        """Hold the present pose by the impedance law. Only for an arm without errors: this would clear them."""
        reading = read(panda.get_state(), panda.get_model())
        self._filter.restart(reading.pose)
        self._control.hold(panda, reading.pose, self._ramp.params)

    def _restart(self, panda: panda_py.Panda) -> None:
        """Go back to the impedance law, unless the arm has an error: that is a person's to clear."""
        try:
            panda.stop_controller()
            panda.refresh_state()
            cause = trouble(panda.get_state())
            if cause is None:
                self._begin_impedance(panda)
        except RuntimeError as error:
            logger.error("the arm took no controller: %s", error)
            cause = CONTROLLER_ENDED
        self._fault = self._fault or cause

    def _lose(self, servo: Servo, last: PandaReading, error: RuntimeError) -> bool:
        """End the loop, with one more tick in which the kernel hears why."""
        logger.error("the connection to the arm is lost: %s", error)
        self._fault, self._panda = CONNECTION_LOST, None
        servo(last.stamp_s, last.measured)
        return False

    def _die(self) -> None:
        self._fault = DIED
        reading = self._reading
        if reading is not None and math.isfinite(sum(reading.pose) + float(reading.measured.q.sum())):
            # The library's loop goes on: it would pull to the last target, and push, for ever.
            self._control.rest(reading.pose, reading.measured.q)

    def _connected(self) -> panda_py.Panda:
        if self._panda is None:
            detail = "the connection to the arm is lost; mend it, and start the robot server again"
            raise Refusal(503, CONNECTION_LOST, detail)
        return self._panda

    def _require_sound(self) -> None:
        """Refuse to touch the controller of an arm at fault: starting one would clear the error."""
        panda = self._connected()
        cause = self._fault or trouble(panda.get_state())
        if cause is not None:
            raise Refusal(423, "latched", f"the arm is at fault ({cause}); look, then /v1/recover", given=cause)
