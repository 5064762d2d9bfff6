"""The safety kernel: what the arm is allowed to do, decided in every control tick.

A pure core: no I/O, no threads, time passed in. Commands set a goal after every check has passed;
`tick` alone moves the set-point. Two clocks: the robot's (commands, moves; simulated time in
simulation) and the liveness clock (the lease; the server's monotonic clock).
"""

import math
from collections.abc import Callable

from robot_servers.backend import JointLimits, Measured, Reference
from robot_servers.kernel_parts.box_watch import BoxWatch
from robot_servers.kernel_parts.joint_guard import JointGuard
from robot_servers.kernel_parts.latches import JOINT_SPEED, NUMERIC_FAULT, OUTSIDE_BOX, Latches
from robot_servers.kernel_parts.lease import LeaseBook
from robot_servers.kernel_parts.motion import Motion
from robot_servers.kernel_parts.readings import Readings
from robot_servers.kernel_parts.server_move import checked_path
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import Refusal, SafetyLimits, check_pose, check_step, check_wrench
from serl_core.robots.messages import ImpedanceParams, Job, Lease, Mode, MoveCommand, Vector6, Vector7

OnEvent = Callable[[str, str], None]
"""(what, detail): a state change, for the audit log. Called from the control loop: must not block."""


class SafetyKernel:
    """The state machine of one arm.

    Args:
        limits: what is allowed.
        joint_limits: of the arm.
        on_event: told of every change of state.
        first_epoch: leases count up from here.

    Attributes:
        stiffness_n_m: of the arm's impedance; the owner keeps it up to date.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        joint_limits: JointLimits,
        on_event: OnEvent = lambda *_: None,
        first_epoch: int = 0,
    ) -> None:
        self.limits = limits
        self.stiffness_n_m = ImpedanceParams().translational_stiffness_n_m
        self.leases = LeaseBook(limits.lease_timeout_s, limits.commands_per_s, first_epoch, limits.command_age_s)
        self._on_event = on_event
        self._joints = JointGuard(joint_limits)
        self._readings = Readings(self._joints)
        self._latches = Latches(on_event)
        wall = SoftWall(limits)
        self._box = BoxWatch(limits, wall)
        self._motion = Motion(limits, self._joints, wall, self._latches, on_event)
        self._now_s = -math.inf

    # ---- what the arm is doing

    @property
    def mode(self) -> Mode:
        """What the arm is doing."""
        if self._latches.fault is not None:
            return Mode.FAULT
        if self._latches.is_stopped:
            return Mode.STOPPED
        mode = self._motion.mode
        return Mode.TRACKING if mode is Mode.HOLD and self._motion.is_pushing else mode

    @property
    def fault(self) -> str | None:
        """The latched cause, in FAULT and STOPPED."""
        return self._latches.cause

    @property
    def own_fault(self) -> str | None:
        """The latched cause of FAULT, whatever else; a stop is none."""
        return self._latches.fault

    @property
    def is_stopped(self) -> bool:
        """A stop is latched, also under a fault."""
        return self._latches.is_stopped

    @property
    def job(self) -> Job | None:
        """The newest move or joint reset."""
        return self._motion.jobs.newest

    @property
    def is_measured(self) -> bool:
        """The arm's pose is known."""
        return self._readings.pose is not None

    @property
    def dropped_readings(self) -> int:
        """How many readings were not finite, since the start."""
        return self._readings.dropped

    @property
    def is_joint_reset(self) -> bool:
        """A joint reset runs."""
        return self.mode is Mode.MOVING and self._motion.is_joint_reset

    # ---- the control loop

    def tick(self, now_s: float, measured: Measured) -> Reference:
        """Return the set-point of this control tick, and the wrench: the commanded one and the soft wall's.

        Before the first sound reading there is no set-point: what comes back is the reading itself.

        Args:
            now_s: the robot's clock.
            measured: this tick's reading.
        """
        dt_s = now_s - self._now_s
        self._now_s = now_s
        self._measure(measured)
        pose = self._readings.pose
        if pose is None:
            return Reference(measured.position_m, measured.quaternion)
        return self._motion.tick(now_s, dt_s, pose, is_clear=self._box.is_clear, stiffness_n_m=self.stiffness_n_m)

    def expire_lease(self, live_s: float) -> None:
        """Take the lease from a holder that is silent for too long, and hold."""
        lease = self.leases.expire(live_s)
        if lease is not None:
            self._on_event("lease_lost", f"{lease.owner} epoch {lease.epoch}: not heard of")
            self._motion.must_hold = True

    def latch(self, cause: str) -> None:
        """Enter FAULT with `cause`, unless there is one already: the first cause is the one to mend."""
        if self._latches.fail(cause):
            self._motion.must_hold = True

    def hold(self) -> None:
        """Hold where the arm is, from the next tick on."""
        self._motion.must_hold = True

    def rebase(self, measured: Measured) -> None:
        """Take note that the arm was put elsewhere, and hold it there at once.

        Raises:
            Refusal: the reading is not finite; nothing has changed.
        """
        if not self._readings.take(measured):
            raise Refusal(503, "no_state", "the measured pose is not finite")
        self._motion.hold(self._now_s, self._measured_pose())

    def end_joint_reset(self) -> None:
        """Take control back: the arm is at its rest posture, and holds where it is."""
        self._motion.end_joint_reset()

    # ---- commands; each raises Refusal and then has changed nothing

    def acquire(
        self, owner: str, live_s: float, timeout_s: float | None = None, pose_epoch: int | None = None
    ) -> Lease:
        """Grant the lease. The arm goes on holding."""
        self.expire_lease(live_s)
        lease = self.leases.acquire(owner, live_s, timeout_s, pose_epoch)
        self._on_event("lease", f"{owner} epoch {lease.epoch}")
        return lease

    def release(self, epoch: int) -> Lease:
        """End the lease and hold."""
        lease = self.leases.release(epoch)
        self._on_event("lease_released", f"{lease.owner} epoch {epoch}")
        self._motion.must_hold = True
        return lease

    def check_track(
        self, epoch: int, sequence: int | None, pose: Vector7, live_s: float = 0.0, sent_s: float | None = None
    ) -> Vector7:
        """Refuse a target that may not be followed now; return it with a quaternion of norm 1."""
        measured = self._check_command(epoch, sequence, live_s, sent_s)
        target = check_pose(pose, self.limits)
        check_step(target, measured, self.limits)
        self._joints.check_target(target, measured)
        return target

    def track(
        self, epoch: int, sequence: int | None, pose: Vector7, live_s: float, sent_s: float | None = None
    ) -> None:
        """Follow a new target from now on.

        Args:
            epoch: of the lease.
            sequence: of the command; None where its way has none.
            pose: the target.
            live_s: the liveness clock.
            sent_s: the client's clock when it sent this; None where that is not judged.
        """
        target = self.check_track(epoch, sequence, pose, live_s, sent_s)
        self.leases.count_command(sequence, self._now_s, live_s, sent_s)
        self._motion.follow(target, self._now_s, self._measured_pose())

    def push(
        self,
        epoch: int,
        wrench: Vector6,
        live_s: float,
        sequence: int | None = None,
        sent_s: float | None = None,
    ) -> None:
        """Push with a feed-forward wrench (tool frame) on top of the impedance, until its time-out.

        The set-point stays what it is: held, or the target of commands that still come in time.
        """
        measured = self._check_command(epoch, sequence, live_s, sent_s)
        check_wrench(wrench, self.limits)
        self._joints.check_wrench(wrench, measured)
        self.leases.count_command(sequence, self._now_s, live_s, sent_s)
        self._motion.push(wrench, self._now_s, measured)

    def move(self, command: MoveCommand) -> Job:
        """Start a minimum-jerk move from the present set-point."""
        self.check_free(command.epoch)
        self._check_idle()
        measured = self._measured_pose()
        path = checked_path(command, self._motion.start_of_move(measured), self.limits)
        return self._motion.begin_move(path, self._now_s, measured)

    def check_joint_reset(self, epoch: int) -> None:
        """Refuse a joint reset that may not start now."""
        self.check_free(epoch)
        self._check_idle()
        self._measured_pose()

    def check_sim_reset(self, epoch: int) -> None:
        """Refuse to put a simulated arm elsewhere now; outside the box that is the way back."""
        self.leases.require(epoch)
        if self._latches.fault != OUTSIDE_BOX or self._latches.is_stopped:
            self.check_free(epoch)
        self._check_idle()

    def begin_joint_reset(self) -> Job:
        """Follow the measured pose: the backend moves the joints, the set-point is unheeded until it ends."""
        return self._motion.begin_joint_reset(self._now_s, self._measured_pose())

    def check_free(self, epoch: int) -> None:
        """Refuse a command without the lease (409), or while a stop or fault is latched (423)."""
        self.leases.require(epoch)
        self._latches.check_free()

    def stop(self, cause: str = "stop") -> None:
        """Latch a stop. One assignment: safe from any thread, without a lock."""
        self._latches.stop(cause)

    def resume(self, epoch: int) -> None:
        """Clear the stop that is latched now, and none that comes meanwhile; the arm holds where it is."""
        self.leases.require(epoch)
        stop = self._latches.present_stop()
        self._on_event("resume", stop.cause)
        self._motion.resume()
        self._latches.clear_stop(stop)

    def check_recover(self, epoch: int, cause: str) -> None:
        """Refuse to clear a fault that is not the present one: its cause must have been seen."""
        self.leases.require(epoch)
        self._latches.check_recover(cause)

    def check_own_recovery(self, cause: str) -> None:
        """Refuse to clear a fault without a client's request that is no longer the present one, or a stopped arm's."""
        self._latches.check_own_recovery(cause)

    def recover(self) -> None:
        """Clear the fault; the arm holds where it is.

        Outside the box it may then be brought back: only further out it is latched again.
        """
        self._on_event("recover", str(self._latches.fault))
        if self._latches.fault == OUTSIDE_BOX:
            self._box.recover(self._measured_pose())
        self._motion.must_hold = True
        self._readings.forgive()
        self._latches.clear_fault()

    # ---- inside

    def _measure(self, measured: Measured) -> None:
        readings = self._readings
        if not readings.take(measured):
            if readings.are_lost:
                self.latch(NUMERIC_FAULT)
            return
        if self._joints.too_fast is not None and self._latches.fault is None:
            self._on_event(JOINT_SPEED, self._joints.too_fast)
            self.latch(JOINT_SPEED)
        if self._box.is_too_far(self._measured_pose()):
            self.latch(OUTSIDE_BOX)

    def _check_command(self, epoch: int, sequence: int | None, live_s: float, sent_s: float | None) -> Vector7:
        """Refuse a target or wrench that may not come now; return the measured pose."""
        self.check_free(epoch)
        if self.mode is Mode.MOVING:
            raise Refusal(423, "moving", "the arm is on a move of the server; wait for it or stop it")
        measured = self._measured_pose()
        self.leases.check_command(sequence, self._now_s, sent_s, live_s)
        return measured

    def _check_idle(self) -> None:
        if self.mode is Mode.MOVING:
            raise Refusal(409, "busy", "a move or joint reset is under way")

    def _measured_pose(self) -> Vector7:
        if self._readings.pose is None:
            raise Refusal(503, "no_state", "the arm's state is not known yet")
        return self._readings.pose
