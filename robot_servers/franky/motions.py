"""Which of franky's motions runs: a small state machine, moved on in every control tick, that never waits.

All calls come from the control thread. The arm takes one kind of control signal at a time: between impedance
(torques), the joint-space move (positions) and settings such as the payload it must have come to rest.
"""

import logging
from enum import Enum

import franky
import numpy as np

from robot_servers.arm_parts.reflex_cause import reflex_cause
from robot_servers.backend import REFLEX, JointLimits
from robot_servers.franky import joint_reset
from robot_servers.franky.errand import Errand
from robot_servers.franky.gains import FULL_ANGLE, axis_clips, cartesian_gains, nullspace_gains
from robot_servers.franky.reading import Reading
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams, Vector7

logger = logging.getLogger(__name__)

GAINS_FILTER_S = 0.01  # the gains already ramp with 0.1 s: this smooths the steps from tick to tick
TORQUE_STEP_NM = 0.5  # per millisecond; the arm itself stops at 1.0 (SAFETY 1.4.5)
REPULSION_RAD = 0.1  # of the joints from their ends (SAFETY 1.4.6)
REPULSION_NM = 5.0


class Phase(Enum):
    """What the arm is doing."""

    IDLE = "idle"  # no motion of ours: the arm holds its joints
    TRACKING = "tracking"  # the impedance law
    ENDING = "ending"  # it is being brought to rest from there
    RESETTING = "resetting"  # the joint-space move
    BRAKING = "braking"  # that is being cancelled
    FAULT = "fault"


class Motions:
    """One arm's motions.

    Attributes:
        phase: what the arm is doing.
        fault: why it stopped, when `phase` is FAULT.
        wants_rest: a joint reset is asked for; from any thread.
    """

    def __init__(self, robot: franky.Robot, limits: JointLimits, speed_m_s: float) -> None:
        self.phase = Phase.IDLE
        self.fault: str | None = None
        self.wants_rest = False
        self._robot: franky.Robot | None = robot
        self._limits = limits
        self._speed_m_s = speed_m_s
        self._tracking: franky.CartesianImpedanceTrackingMotion | None = None
        self._is_at_rest = False
        self._errand: Errand | None = None

    def when_idle(self, errand: Errand) -> None:
        """Bring the arm to rest, run `errand` once, and go on; an arm at fault refuses it. From any thread."""
        self._errand = errand
        if self.fault is not None:
            self._refuse_errand()

    def observe(self) -> None:
        """Take note of a motion that is over: it came to its end, or the arm cut it off."""
        robot = self._robot
        is_over = robot is not None and self.phase not in (Phase.IDLE, Phase.FAULT) and not robot.is_in_control
        if robot is not None and is_over:
            self._finish(robot)

    def advance(self, reading: Reading, gains: ImpedanceParams, wanted: ImpedanceParams) -> bool:
        """Start and end motions as they are asked for; True when tracking has just begun at the measured pose.

        Args:
            reading: of this tick.
            gains: the present ones.
            wanted: those that they are on the way to; a motion is made with their clips.
        """
        robot = self._robot
        if self.phase is Phase.FAULT or robot is None:
            return False
        if not self.wants_rest:
            self._is_at_rest = False
        try:
            return self._next(robot, reading, gains, wanted)
        except (franky.Exception, RuntimeError) as error:
            self.fail(error)
            return False

    def track(self, pose: Vector7, acceleration: franky.TwistAcceleration | None) -> None:
        """Let the impedance law pull to `pose`."""
        if self._tracking is not None:
            target = franky.Affine(np.array(pose[:3]), np.array(pose[3:]))
            self._tracking.set_reference(franky.CartesianReference(target, target_acceleration=acceleration))

    def set_gains(self, gains: ImpedanceParams) -> None:
        """Let the impedance law have these gains."""
        if self._tracking is not None:
            self._tracking.set_gains(cartesian_gains(gains))
            self._tracking.set_nullspace_gains(nullspace_gains(gains))

    def set_clips(self, gains: ImpedanceParams, wanted: ImpedanceParams, pose: Vector7) -> None:
        """Hand over to a law with the clips of `wanted`: a motion keeps those that it was made with."""
        if self._robot is not None:
            self._start_tracking(self._robot, gains, wanted, pose)

    def fail(self, error: Exception) -> None:
        """Latch what `error` means; nothing is started until `clear`."""
        is_lost = isinstance(error, franky.NetworkException) or "Net Exception" in str(error)
        cause = "connection_lost" if is_lost else _cause(str(error))
        self.latch(cause, str(error))

    def latch(self, cause: str, why: str) -> None:
        """Latch `cause`."""
        if self.fault is None:
            logger.error("the arm stopped, %s: %s", cause, why)
            self.fault = cause
        self.phase = Phase.FAULT
        self.wants_rest = False
        self._tracking = None
        self._refuse_errand()

    def release(self) -> None:
        """Let go of the connection."""
        self._robot = self._tracking = None

    def clear(self, robot: franky.Robot) -> None:
        """Go on with `robot`, which is free of errors and at rest."""
        self._robot = robot
        self.phase, self.fault, self._tracking = Phase.IDLE, None, None

    def end(self) -> None:
        """Begin to bring the arm to rest, for good."""
        robot = self._robot
        if robot is None or not robot.is_in_control:
            return
        if self.phase is Phase.TRACKING:
            robot.move(franky.TorqueStopMotion(max_delta_tau=TORQUE_STEP_NM), asynchronous=True)
        elif self.phase is Phase.RESETTING:
            robot.move(franky.JointStopMotion(joint_reset.BRAKING_SHARE), asynchronous=True)

    def _refuse_errand(self) -> None:
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.refuse(RobotError(f"it is at fault: {self.fault}"))

    def _finish(self, robot: franky.Robot) -> None:
        try:
            robot.join_motion(0.0)
        except (franky.Exception, RuntimeError) as error:
            self.fail(error)
            return
        if self.phase is Phase.TRACKING:
            self.latch("control_ended", "the impedance law ended without a reason")
            return
        self._is_at_rest = self.phase is Phase.RESETTING
        self.phase, self._tracking = Phase.IDLE, None

    def _next(self, robot: franky.Robot, reading: Reading, gains: ImpedanceParams, wanted: ImpedanceParams) -> bool:
        if self.phase is Phase.TRACKING and (self.wants_rest or self._errand is not None):
            robot.move(franky.TorqueStopMotion(max_delta_tau=TORQUE_STEP_NM), asynchronous=True)
            self.phase = Phase.ENDING
        elif self.phase is Phase.RESETTING and not self.wants_rest:
            robot.move(franky.JointStopMotion(joint_reset.BRAKING_SHARE), asynchronous=True)
            self.phase = Phase.BRAKING
        elif self.phase is Phase.IDLE:
            errand, self._errand = self._errand, None
            if errand is not None:
                errand.run()
            elif not self.wants_rest:
                self._start_tracking(robot, gains, wanted, reading.pose)
                self.phase = Phase.TRACKING
                return True
            elif not self._is_at_rest:
                motion = joint_reset.rest_motion(robot, reading.state, self._speed_m_s)
                robot.move(motion, asynchronous=True)
                self.phase = Phase.RESETTING
        return False

    def _start_tracking(
        self, robot: franky.Robot, gains: ImpedanceParams, wanted: ImpedanceParams, pose: Vector7
    ) -> None:
        translational_clip, rotational_clip = axis_clips(wanted)
        motion = franky.CartesianImpedanceTrackingMotion(
            translational_stiffness=gains.translational_stiffness_n_m,
            rotational_stiffness=gains.rotational_stiffness_nm_rad / FULL_ANGLE,
            translational_error_clip=np.array(translational_clip),
            rotational_error_clip=np.array(rotational_clip),
            posture_task=franky.PostureTask(joint_reset.REST_Q, gains.nullspace_stiffness_nm_rad),
            max_delta_tau=TORQUE_STEP_NM,
            lower_joint_limits=np.array(self._limits.low_rad),
            upper_joint_limits=np.array(self._limits.high_rad),
            joint_limit_activation_distance=REPULSION_RAD,
            joint_limit_max_torque=REPULSION_NM,
            gains_time_constant=GAINS_FILTER_S,
        )
        self._tracking = motion
        self.set_gains(gains)
        self.track(pose, None)
        robot.move(motion, asynchronous=True)


def _cause(error: str) -> str:
    """Return why a motion ended, from libfranka's words about it."""
    cause = reflex_cause(error)
    return cause if cause != REFLEX or "reflex" in error else "control_ended"
