"""An arm behind crisp_controllers and franka_ros2: the 1 kHz loop is theirs, the safety kernel runs in a thread here.

What the controller tracks is published in each tick: the reference behind the filter and the error clip, and the
wrench. The controller keeps the newest of both, so a server that ends tells it to hold where the arm is. Should this
process be killed, it holds the last target behind its own error clip, and goes on pushing with the last wrench until a
server is started again.
"""

import logging
import math
import threading
from enum import Enum
from typing import Any

from robot_servers.arm_parts.control_thread import ControlThread
from robot_servers.arm_parts.flange import Flange
from robot_servers.arm_parts.gain_ramp import check_no_integral
from robot_servers.arm_parts.spring_target import spring_target
from robot_servers.arm_parts.state_message import message
from robot_servers.arm_parts.target_filter import TargetFilter
from robot_servers.backend import JointLimits, Servo
from robot_servers.grippers.interface import Gripper
from robot_servers.impedance_limits import initial_impedance
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.ros2 import controllers, names
from robot_servers.ros2.gain_parameters import GainParameters
from robot_servers.ros2.hand import RosHand
from robot_servers.ros2.io import RosIo, perform
from robot_servers.ros2.joint_reset import JointReset, JointResetBy
from robot_servers.ros2.state import Reading, read
from robot_servers.ros2.targets import Targets
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3

logger = logging.getLogger(__name__)

# 200 Hz: a target is up to 5 ms old when the next one comes, of the 20 ms that its filter takes anyway. A tick takes
# 0.11 ms besides what rclpy needs to convert the messages. The controller's own error clip acts at 1 kHz.
PERIOD_S = 0.005
FIRST_STATE_S = 3.0
RECOVERY_S = 5.0
SWITCHED_S = 3.0 * controllers.SERVICE_S  # until the way back from a joint reset is over at the latest

NUMERIC_FAULT, CONTROLLER_REFUSED, DIED = "numeric_fault", "controller_refused", "control_loop_died"

# franka_ros2 drives more than one model, and only the running arm says which: what every one of them can do.
LIMITS = JointLimits(
    low_rad=(-2.7437, -1.7628, -2.8973, -3.0421, -2.8065, 0.5445, -2.8973),
    high_rad=(2.7437, 1.7628, 2.8973, -0.1518, 2.8065, 3.7525, 2.8973),
    speed_rad_s=(2.0, 1.0, 1.5, 1.25, 2.51, 1.5, 2.51),
)


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
        self._flange = Flange(RosHand(io) if has_hand else gripper)
        self._joint_reset_by = joint_reset_by
        self._filter = TargetFilter(target_filter_s)
        self._gains = GainParameters(io, initial_impedance(limits))
        self._targets = Targets(io)
        self._reset: JointReset | None = None
        self._newest: Any = None  # the newest state message, replaced by the node's thread
        self._is_heard = threading.Event()
        self._seen: Any = None  # the one that the last tick was about
        self._reading: Reading | None = None
        self._servo: Servo | None = None
        self._fault: str | None = None
        self._phase = Phase.SWITCHING
        self._switcher: threading.Thread | None = None  # goes back to the Cartesian controller after a joint reset
        self._arm = threading.Lock()  # held in a tick
        self._thread = ControlThread("ros2-control-loop", PERIOD_S, self._tick, self._die)

    def start(self, servo: Servo) -> None:
        """Join ROS, set the law and the gains, switch to the Cartesian controller, and hold the present pose.

        Raises:
            SerlError: ROS, the arm's nodes or a controller is not there, or the arm is not free; with the remedy.
        """
        self.stop()
        self._newest, self._reading, self._fault, self._servo, self._reset = None, None, None, servo, None
        self._is_heard.clear()
        try:
            self._io.start()
            self._io.subscribe(names.ROBOT_STATE, self._take)
            self._reading = self._first_reading()
            self._gains.settle()
            controllers.prepare(self._io, self._limits, self._gains.params)
            self._activate([])
            self._flange.start()
        except BaseException:  # also Ctrl-C: nothing stays half started; raised again
            self.stop()
            raise
        self._filter.restart(self._reading.pose)
        self._phase = Phase.TRACKING
        self._thread.start()

    def stop(self) -> None:
        """End the loop and the node; the controller holds where the arm is then. Safe to call twice."""
        self._thread.stop()
        if self._switcher is not None:
            self._switcher.join(SWITCHED_S)
            self._switcher = None
        self._let_rest()
        self._flange.stop()
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
        return message(self._reading, gripper=self._flange.position(), reference=self._filter.pose, fault=self._fault)

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Let gains and clips go to `params` with a time constant of 0.1 s; none rises while the arm pushes.

        Raises:
            Refusal: an integral gain: the controller has none.
        """
        check_no_integral(params, "crisp_controllers")
        with self._arm:
            self._gains.set_goal(params)

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start moving the fingers to `position`, 0 closed .. 1 open.

        Raises:
            Refusal: there is no gripper, or it no longer obeys.
        """
        self._flange.move(position, speed_m_s, force_n)

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
        reset = JointReset(reading, self._limits.speed_m_s)
        self._phase = Phase.SWITCHING
        try:
            controllers.switch(self._io, self._joint_reset_by.controllers, [names.CARTESIAN_CONTROLLER])
            reset.send(self._io, self._joint_reset_by)
        except RobotError as error:
            self._resume([])
            raise Refusal(409, "reset_refused", str(error)) from None
        self._reset, self._phase = reset, Phase.RESETTING

    # The next two and `fault` take no lock: the servo calls them inside the tick, under locks of its own.

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""
        reset, reading = self._reset, self._reading
        return None if reset is None or reading is None or reset.must_end else reset.error_rad(reading.measured.q)

    def cancel_joint_reset(self) -> None:
        """Go back to the Cartesian controller as soon as it is switched to, from the pose then measured on."""
        reset = self._reset
        if reset is not None:
            reset.must_end = True

    def recover(self) -> None:
        """Clear the arm's error, and hold the present pose.

        Raises:
            Refusal: the error stays, or the controller does not start again.
        """
        if self._fault == DIED:
            raise Refusal(409, "still_faulted", "the control loop died, see the log; start the robot server again")
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
        self._gains.retry()
        self._fault = None
        self._resume([names.CARTESIAN_CONTROLLER])
        if self._fault is not None:
            raise Refusal(409, "still_faulted", "the Cartesian controller does not start; see controller_manager's log")

    def gripper_fault(self) -> str | None:
        """Return why the gripper no longer obeys, such as ``gripper_lost``, or None; the arm goes on."""
        return self._flange.fault()

    def recover_gripper(self) -> None:
        """Clear the gripper's fault and connect it again; returns at once."""
        self._flange.recover()

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
        reset = self._reset
        if reset is not None and reset.has_failed:
            self._fault = self._fault or "joint_reset_blocked"
        reference = servo(reading.stamp_s, reading.measured)
        if reset is not None and (reset.must_end or self._fault is not None):
            self._end_reset(reset)
        if self._phase is not Phase.TRACKING or self._fault not in (None, NUMERIC_FAULT):
            self._filter.restart(reading.pose)
            self._targets.relax()
            return True
        if self._fault is None and not self._filter.follow(reference, dt_s):
            self._fault = NUMERIC_FAULT
            self._filter.restart(reading.pose)
        self._gains.tick(reading)
        if self._gains.has_failed:
            self._fault = self._fault or CONTROLLER_REFUSED
        if math.isfinite(sum(reading.pose)):
            wrench = None if reference.wrench is None or self._fault is not None else reference.wrench.tolist()
            self._targets.publish(reading, spring_target(self._filter.pose, reading.pose, self._gains.params), wrench)
        return True

    def _let_rest(self) -> None:
        """Tell the controller to hold where the arm is: it would go on pulling to the last target, and pushing."""
        reading = self._reading
        if self._phase is not Phase.TRACKING or reading is None or not math.isfinite(sum(reading.pose)):
            return
        try:
            self._targets.rest(reading.pose)
        except Exception:  # whatever it is, the rest of the driver is to be ended
            logger.exception("the controller was not told to hold where the arm is")

    def _die(self) -> None:
        self._fault = DIED
        self._let_rest()

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
        self._targets.end_push()  # also one that was left by a server that was killed
        controllers.activate(self._io, restart)

    def _resume(self, restart: list[str]) -> None:
        """Go back to the Cartesian controller; a failure is a fault."""
        try:
            self._activate(restart)
        except Exception:  # on a thread of its own nobody else would hear of it
            logger.exception("the Cartesian controller does not start")
            self._fault = self._fault or CONTROLLER_REFUSED
            return
        self._phase = Phase.TRACKING

    # ---- the joint reset

    def _end_reset(self, reset: JointReset) -> None:
        """Cancel what still runs and switch back, on a thread of its own: the control loop waits for no service."""
        self._reset = None
        reset.cancel()
        self._phase = Phase.SWITCHING
        self._switcher = threading.Thread(target=self._resume, args=([],), name="ros2-switch", daemon=True)
        self._switcher.start()

    def _settle(self) -> None:
        """Wait until a joint reset that was cancelled has made way."""
        with self._arm:
            if self._reset is not None and self._reset.must_end:
                self._end_reset(self._reset)
            switcher = self._switcher
        if switcher is not None:
            switcher.join(SWITCHED_S)

    def _require_sound(self) -> None:
        if self._fault is not None:
            cause = self._fault
            raise Refusal(423, "latched", f"the arm is at fault ({cause}); look, then /v1/recover", given=cause)
