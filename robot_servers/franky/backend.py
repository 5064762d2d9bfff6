"""The FR3 behind the driver's protocol: franky's 1 kHz loop does the impedance, the control thread here feeds it.

The control thread runs at 500 Hz: ten times in the time constant of the set-point's filter, and at a tick of about
0.1 ms the other threads of the server have the interpreter for themselves most of the time. The arm's own loop and
its clips do not wait for it.
"""

import logging
import math
import time

import franky

from robot_servers.arm_parts.control_thread import ControlThread
from robot_servers.arm_parts.flange import Flange
from robot_servers.arm_parts.gain_ramp import PUSHING_N, GainRamp, check_no_integral
from robot_servers.arm_parts.reflex_cause import reflex_cause
from robot_servers.arm_parts.spring_target import spring_target
from robot_servers.arm_parts.state_message import message
from robot_servers.arm_parts.target_filter import TargetFilter
from robot_servers.backend import JointLimits, Servo
from robot_servers.franky import joint_reset
from robot_servers.franky.connection import configure, connect, recover_from_errors
from robot_servers.franky.errand import Errand
from robot_servers.franky.gains import axis_clips
from robot_servers.franky.joint_limits import joint_limits
from robot_servers.franky.motions import Motions, Phase
from robot_servers.franky.reading import Reading, acceleration_for, read
from robot_servers.grippers.interface import Gripper
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3

logger = logging.getLogger(__name__)

PERIOD_S = 0.002
LOST_S = 0.8  # without a new reading; before the kernel gives the backend up. The arm itself stops after 0.02 s
LOST, DIED = "connection_lost", "control_loop_died"
STOP_S = 3.0  # to come to rest when the driver ends


class FrankyBackend:
    """An FR3: `RobotBackend`. The control thread alone talks to the arm; calls leave word with it, or wait for it."""

    name = "franky"
    is_simulated = False
    is_lockstep = False
    scene: str | None = None

    def __init__(
        self,
        robot_ip: str,
        limits: SafetyLimits,
        *,
        gripper: Gripper | None = None,
        target_filter_s: float = 0.02,
        enforce_realtime: bool = True,
    ) -> None:
        """Store what is needed to connect.

        Args:
            robot_ip: the arm's address.
            limits: its reflex thresholds and the speed of a joint reset.
            gripper: at its flange; None for none.
            target_filter_s: time constant of the set-point's filter.
            enforce_realtime: refuse a kernel that is not real-time.
        """
        self._robot_ip = robot_ip
        self._safety = limits
        self._flange = Flange(gripper)
        self._enforce_realtime = enforce_realtime
        self._filter = TargetFilter(target_filter_s)
        self._params = ImpedanceParams()  # the newest that was asked for
        self._gains = GainRamp(self._params)
        self._robot: franky.Robot | None = None
        self._limits: JointLimits | None = None
        self._motions: Motions | None = None
        self._reading: Reading | None = None
        self._goal = self._params  # what the gains are on the way to
        self._is_loss_told = False
        self._recovery: Errand | None = None
        self._thread: ControlThread | None = None

    # ---- life

    def joint_limits(self) -> JointLimits:
        """Return the limits of the arm that is connected; connects.

        Raises:
            SerlError: the arm cannot be reached, or this computer cannot control it.
        """
        if self._limits is None:
            self._limits = joint_limits(self._connected().model_urdf)
        return self._limits

    def start(self, servo: Servo) -> None:
        """Hold the present pose.

        Raises:
            SerlError: the arm or its gripper is not there or not free; nothing has moved.
        """
        if self._thread is not None:
            self.stop()
        robot = self._connected()
        try:
            configure(robot, self._safety)
            self._flange.start()
            self._motions = Motions(robot, self.joint_limits(), self._safety.speed_m_s)
            state = robot.state
            if state.robot_mode == franky.RobotMode.Reflex:
                errors = str(state.current_errors)
                self._motions.latch(reflex_cause(errors), f"it was when the server started, {errors}")
        except BaseException:  # also Ctrl-C: nothing stays half started; raised again
            self.stop()
            raise
        motions = self._motions
        self._reading = self._recovery = None  # of the connection before
        self._thread = ControlThread("franky", PERIOD_S, lambda: self._tick(servo, motions), self._die)
        self._thread.start()

    def stop(self) -> None:
        """Bring the arm to rest and disconnect. Safe to call twice."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None
        if self._motions is not None:
            self._come_to_rest(self._motions)
            self._motions.release()
        self._robot = None  # a start after a stop connects again
        self._flange.stop()

    def _connected(self) -> franky.Robot:
        if self._robot is None:
            self._robot = connect(self._robot_ip, enforce_realtime=self._enforce_realtime)
        return self._robot

    # ---- readings

    def now_s(self) -> float:
        """Return this computer's monotonic clock: it goes on when the arm is switched off."""
        return time.monotonic()

    def state(self) -> RobotState:
        """Return the newest reading.

        Raises:
            RobotError: there is none yet.
        """
        reading = self._reading
        if reading is None:
            raise RobotError("the arm has not told its state yet; start the driver", status=503)
        return message(reading, gripper=self._flange.position(), reference=self._filter.pose, fault=self.fault())

    # ---- commands

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Let gains and clips go to `params` with a time constant of 0.1 s; none rises while the arm is pushed.

        Raises:
            Refusal: there is an integral gain.
        """
        check_no_integral(params, "the FR3")
        self._params = params  # the control thread takes it up

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start a gripper motion; returns at once.

        Raises:
            Refusal: there is no gripper, or it no longer answers.
        """
        self._flange.move(position, speed_m_s, force_n)

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Tell the arm its payload: it takes none in motion, so it rests for a moment.

        Raises:
            Refusal: the arm does not take it.
        """
        robot, motions = self._connected(), self._started()
        # The inertia is symmetric, so row by row is column by column.
        errand = Errand(lambda: robot.set_load(mass_kg, center_m, inertia_kg_m2))
        motions.when_idle(errand)
        errand.wait("the payload")

    def start_joint_reset(self) -> None:
        """Begin the joint-space move to the rest posture, once the arm is at rest; it stays there until cancelled."""
        self._started().wants_rest = True

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""
        motions, reading = self._motions, self._reading
        if motions is None or reading is None or not motions.wants_rest:
            return None
        return joint_reset.error_rad(reading.measured.q)

    def cancel_joint_reset(self) -> None:
        """Brake, and hold where the arm comes to rest."""
        if self._motions is not None:
            self._motions.wants_rest = False

    def recover(self) -> None:
        """Clear a reflex, or connect again, and hold the present pose.

        Raises:
            Refusal: the arm does not recover; the fault stays.
        """
        motions = self._started()
        if motions.fault == DIED:
            raise Refusal(409, "still_faulted", "the control loop died, see the log; start the robot server again")
        if motions.fault is not None:
            self._recovery = errand = Errand(lambda: self._recover(motions))
            errand.wait("the recovery")

    def gripper_fault(self) -> str | None:
        """Return why the gripper no longer obeys, such as ``gripper_lost``, or None; the arm goes on."""
        return self._flange.fault()

    def recover_gripper(self) -> None:
        """Clear the gripper's fault and connect it again; returns at once."""
        self._flange.recover()

    def fault(self) -> str | None:
        """Return why the arm does not obey, such as ``reflex`` or ``connection_lost``, or None."""
        return None if self._motions is None else self._motions.fault

    def _started(self) -> Motions:
        if self._motions is None:
            raise RobotError("the driver has not been started", status=409)
        return self._motions

    # ---- the control thread

    def _tick(self, servo: Servo, motions: Motions) -> bool:
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.run()
        last, now_s = self._reading, time.monotonic()
        reading = self._next_reading(motions, now_s)
        if reading is None:
            if last is not None and motions.fault == LOST and not self._is_loss_told:
                servo(now_s, last.measured)  # once, so that the kernel hears of it
                self._is_loss_told = True
            return True
        self._reading, self._is_loss_told = reading, False
        reference = servo(now_s, reading.measured)
        dt_s = PERIOD_S if last is None else reading.stamp_s - last.stamp_s
        goal, before, gains = self._params, self._goal, self._gains
        if goal is not before:
            gains.set_goal(goal)
            self._goal = goal
        is_changing = not gains.is_settled
        if is_changing:
            gains.advance(dt_s, may_rise=math.hypot(*reading.wrench[:3].tolist()) <= PUSHING_N)
        if not math.isfinite(sum(reading.pose)):
            return True  # the kernel latches when more of them follow; franky's law goes on with the last reference
        if motions.advance(reading, gains.params, goal) or motions.phase is not Phase.TRACKING:
            self._filter.restart(reading.pose)
        if motions.phase is not Phase.TRACKING:
            return True
        if not self._filter.follow(reference, dt_s):
            motions.end()
            motions.latch("numeric_fault", "the reference is not finite")
            return True
        pose = spring_target(self._filter.pose, reading.pose, gains.params)
        if axis_clips(goal) != axis_clips(before):
            motions.set_clips(gains.params, goal, pose)
        elif is_changing:
            motions.set_gains(gains.params)
        wrench = reference.wrench
        motions.track(pose, None if wrench is None else acceleration_for(self._connected(), reading, wrench))
        return True

    def _next_reading(self, motions: Motions, now_s: float) -> Reading | None:
        """Return a new reading, or None while there is none; a silence that is too long is latched."""
        if motions.fault == LOST:
            return None  # there is nothing to read until somebody asks to recover
        motions.observe()  # first: where the arm is gone for good, a reading waits for a second
        if motions.fault == LOST:
            return None
        try:
            reading = self._read(now_s)
        except (franky.Exception, RuntimeError) as error:
            motions.fail(error)
            return None
        last = self._reading
        if reading is None and last is not None and now_s - last.stamp_s > LOST_S:
            motions.latch(LOST, f"no state for {LOST_S:g} s")
        return reading

    def _read(self, now_s: float) -> Reading | None:
        """Return a new reading, or None while the newest is the last one."""
        robot = self._connected()
        state = robot.state
        last = self._reading
        if last is not None and state.time.to_msec() == last.state.time.to_msec():  # no two durations are equal
            return None
        return read(robot, state, now_s)

    def _recover(self, motions: Motions) -> None:
        robot = self._robot
        if motions.fault == LOST:
            robot = self._robot = None
            motions.release()  # the arm serves one connection at a time
            robot = self._connected()
            configure(robot, self._safety)
        assert robot is not None
        if robot.has_errors:
            recover_from_errors(robot)
        motions.clear(robot)

    def _die(self) -> None:
        """Do what is left to do when the tick has raised."""
        motions = self._started()
        self._come_to_rest(motions)
        motions.latch(DIED, "its last error is above")

    def _come_to_rest(self, motions: Motions) -> None:
        try:
            motions.end()
            give_up_s = time.monotonic() + STOP_S
            while self._robot is not None and self._robot.is_in_control and time.monotonic() < give_up_s:
                time.sleep(PERIOD_S)
        except (franky.Exception, RuntimeError) as error:
            logger.warning("the arm was not brought to rest by the driver, it stops itself: %s", error)
