"""The safety kernel: what the arm is allowed to do, decided in every control tick.

A pure core: no I/O, no threads, time passed in. Commands set a goal after every check has passed;
`tick` alone moves the set-point. Two clocks: the robot's (commands, moves; simulated time in
simulation) and the liveness clock (the lease; the server's monotonic clock).
"""

import math
from collections.abc import Callable

from robot_servers.backend import JointLimits, Measured, Reference
from robot_servers.kernel_parts.box_watch import BoxWatch
from robot_servers.kernel_parts.feed_forward import FeedForward
from robot_servers.kernel_parts.jobs import Jobs
from robot_servers.kernel_parts.joint_guard import JointGuard
from robot_servers.kernel_parts.lease import LeaseBook
from robot_servers.kernel_parts.readings import Readings
from robot_servers.kernel_parts.server_move import ServerMove
from robot_servers.kernel_parts.settling import Settling
from robot_servers.kernel_parts.slew import MinimumJerk, SetPoint
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.kernel_parts.speed_governor import SpeedGovernor
from robot_servers.kernel_parts.stop_latch import StopLatch
from robot_servers.limits import (
    Refusal,
    SafetyLimits,
    check_pose,
    check_range,
    check_step,
    check_tilt,
    check_wrench,
)
from serl_core.robots.messages import ImpedanceParams, Job, Lease, Mode, MoveCommand, Vector6, Vector7

OUTSIDE_BOX = "outside_box"
JOINT_SPEED = "joint_speed"
RESET_FAILED = "reset_failed"

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
        self._jobs = Jobs(on_event)
        self._box = BoxWatch(limits)
        self._set_point = SetPoint(limits)
        self._feed_forward = FeedForward()
        self._joints = JointGuard(joint_limits)
        self._readings = Readings(self._joints)
        self._settling = Settling()
        self._governor = SpeedGovernor(limits)
        self._wall = SoftWall(limits)
        self._clear = (self._wall.clear_low_m, self._wall.clear_high_m)
        self._is_clear = True  # of the wall
        self._mode = Mode.HOLD
        self._stop = StopLatch()
        self._fault: str | None = None
        self._must_hold = True  # at the next tick, the set-point becomes the measured pose
        self._now_s = -math.inf
        self._target: Vector7 = self._set_point.pose
        self._command_s = 0.0
        self._move: ServerMove | None = None  # None in a joint reset
        self._move_s = 0.0

    # ---- what the arm is doing

    @property
    def mode(self) -> Mode:
        """What the arm is doing."""
        if self._fault is not None:
            return Mode.FAULT
        if self._stop.is_set:
            return Mode.STOPPED
        is_pushing = self._mode is Mode.HOLD and self._feed_forward.wrench is not None
        return Mode.TRACKING if is_pushing else self._mode

    @property
    def fault(self) -> str | None:
        """The latched cause, in FAULT and STOPPED."""
        stop = self._stop.present
        return self._fault or (None if stop is None else stop.cause)

    @property
    def own_fault(self) -> str | None:
        """The latched cause of FAULT, whatever else; a stop is none."""
        return self._fault

    @property
    def is_stopped(self) -> bool:
        """A stop is latched, also under a fault."""
        return self._stop.is_set

    @property
    def job(self) -> Job | None:
        """The newest move or joint reset."""
        return self._jobs.newest

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
        return self.mode is Mode.MOVING and self._move is None

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
        feed_forward = self._feed_forward
        is_pushed = feed_forward.wrench is not None or not (self._is_clear or self._wall.is_relieved)
        is_idle = self._mode is Mode.HOLD and not (is_pushed or self._settling.is_on)
        braked = None
        if feed_forward.wrench is not None:
            self._tick_wrench()
        if self._must_hold or (self._stop.is_set and not is_idle):
            self._hold()
        elif self._mode is Mode.TRACKING:
            if now_s - self._command_s > self.limits.command_timeout_s:
                self._on_event("watchdog", f"no command for {self.limits.command_timeout_s:g} s: hold")
                self._hold()
            else:
                self._advance(self._target, dt_s)
        elif self._mode is Mode.MOVING:
            self._tick_move(dt_s)
        elif self._settling.is_on:
            braked = self._tick_settling(pose)
        if self._joints.is_near:
            self._tick_joints(pose)
        reference, wrench = braked or self._set_point.reference, feed_forward.wrench
        if not self._is_clear and self.fault is None:
            push = self._wall.wrench(pose)
            wrench = push if wrench is None else push + wrench
        return reference if wrench is None else reference._replace(wrench=wrench)

    def expire_lease(self, live_s: float) -> None:
        """Take the lease from a holder that is silent for too long, and hold."""
        lease = self.leases.expire(live_s)
        if lease is not None:
            self._on_event("lease_lost", f"{lease.owner} epoch {lease.epoch}: not heard of")
            self._must_hold = True

    def latch(self, cause: str) -> None:
        """Enter FAULT with `cause`, unless there is one already: the first cause is the one to mend."""
        if self._fault is None:
            self._on_event("fault", cause)
            self._fault = cause
            self._must_hold = True

    def hold(self) -> None:
        """Hold where the arm is, from the next tick on."""
        self._must_hold = True

    def rebase(self, measured: Measured) -> None:
        """Take note that the arm was put elsewhere, and hold it there at once.

        Raises:
            Refusal: the reading is not finite; nothing has changed.
        """
        if not self._readings.take(measured):
            raise Refusal(503, "no_state", "the measured pose is not finite")
        self._hold()

    def end_joint_reset(self) -> None:
        """Take control back: the arm is at its rest posture, and holds where it is."""
        self._jobs.finish("succeeded", "")
        self._must_hold = True

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
        self._must_hold = True
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
        self._end_hold()
        self._target = target
        self._command_s = self._now_s
        if self._mode is not Mode.TRACKING:
            self._on_event("mode", "tracking")
            self._mode = Mode.TRACKING

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
        self._end_hold()
        if self._feed_forward.wrench is None:
            self._on_event("wrench", "on")
        self._feed_forward.command(wrench, self._now_s, measured)

    def move(self, command: MoveCommand) -> Job:
        """Start a minimum-jerk move from the present set-point."""
        self.check_free(command.epoch)
        self._check_idle()
        check_range("speed_m_s", command.speed_m_s, 0.001, self.limits.speed_m_s)
        check_range("speed_rad_s", command.speed_rad_s, 0.001, self.limits.speed_rad_s)
        goal = check_pose(command.pose, self.limits)
        measured = self._measured_pose()
        start = measured if self._must_hold else self._set_point.pose
        path = MinimumJerk(start, goal, command.speed_m_s, command.speed_rad_s, self.limits)
        for step in range(1, 16):
            check_tilt(path.along(step / 16), self.limits)
        self._end_hold()
        self._move = ServerMove(path, self._now_s)
        self._target = goal
        return self._begin_job("move")

    def check_joint_reset(self, epoch: int) -> None:
        """Refuse a joint reset that may not start now."""
        self.check_free(epoch)
        self._check_idle()
        self._measured_pose()

    def check_sim_reset(self, epoch: int) -> None:
        """Refuse to put a simulated arm elsewhere now; outside the box that is the way back."""
        self.leases.require(epoch)
        if self._fault != OUTSIDE_BOX or self._stop.is_set:
            self.check_free(epoch)
        self._check_idle()

    def begin_joint_reset(self) -> Job:
        """Follow the measured pose: the backend moves the joints, the set-point is unheeded until it ends."""
        self._settle_hold()
        self._move = None
        self._move_s = self._now_s
        return self._begin_job("joint_reset")

    def check_free(self, epoch: int) -> None:
        """Refuse a command without the lease (409), or while a stop or fault is latched (423)."""
        self.leases.require(epoch)
        if self.fault is not None:
            cause = self.fault
            remedy = "/v1/recover" if self._fault is not None else "/v1/resume"
            raise Refusal(423, "latched", f"the arm is latched by {cause!r}; look, then {remedy}", given=cause)

    def stop(self, cause: str = "stop") -> None:
        """Latch a stop. One assignment: safe from any thread, without a lock."""
        self._stop.set(cause)

    def resume(self, epoch: int) -> None:
        """Clear the stop that is latched now, and none that comes meanwhile; the arm holds where it is."""
        self.leases.require(epoch)
        stop = self._stop.present
        if stop is None:
            raise Refusal(409, "not_stopped", "the arm is not stopped")
        self._on_event("resume", stop.cause)
        self._must_hold = True
        self._mode = Mode.HOLD
        self._jobs.finish("cancelled", "stopped")
        self._stop.clear(stop)

    def check_recover(self, epoch: int, cause: str) -> None:
        """Refuse to clear a fault that is not the present one: its cause must have been seen."""
        self.leases.require(epoch)
        if self._fault is None:
            raise Refusal(409, "no_fault", "the arm is in no fault")
        if cause != self._fault:
            detail = f"the present fault is {self._fault!r}, not {cause!r}"
            raise Refusal(422, "cause", detail, field="cause", given=cause, limit=self._fault)

    def check_own_recovery(self, cause: str) -> None:
        """Refuse to clear a fault without a client's request that is no longer the present one, or a stopped arm's."""
        if self._fault != cause or self._stop.is_set:
            raise Refusal(409, "cause", f"the arm is latched by {self.fault!r}", given=cause, limit=self.fault)

    def recover(self) -> None:
        """Clear the fault; the arm holds where it is.

        Outside the box it may then be brought back: only further out it is latched again.
        """
        self._on_event("recover", str(self._fault))
        if self._fault == OUTSIDE_BOX:
            self._box.recover(self._measured_pose())
        self._must_hold = True
        self._readings.forgive()
        self._fault = None

    # ---- inside

    def _measure(self, measured: Measured) -> None:
        readings = self._readings
        if not readings.take(measured):
            if readings.are_lost:
                self.latch("numeric_fault")
            return
        pose = self._measured_pose()
        if self._joints.too_fast is not None and self._fault is None:
            self._on_event(JOINT_SPEED, self._joints.too_fast)
            self.latch(JOINT_SPEED)
        px, py, pz = pose[:3]
        (lx, ly, lz), (hx, hy, hz) = self._clear
        if lx <= px <= hx and ly <= py <= hy and lz <= pz <= hz:
            self._is_clear = True
            self._box.forget()
            return
        self._is_clear = False
        if self._box.is_too_far(pose):
            self.latch(OUTSIDE_BOX)

    def _hold(self) -> None:
        """Freeze the set-point at the pose measured now."""
        measured = self._measured_pose()
        self._must_hold = False
        self._feed_forward.clear()
        self._jobs.finish("cancelled", self.fault or "held")
        if self._mode is not Mode.HOLD:
            self._on_event("mode", "hold")
            self._mode = Mode.HOLD
        self._settling.end()
        if self.fault is None:  # a stop or a fault freezes the set-point, whatever the arm does
            self._settling.begin(self._joints.velocity(), self._now_s)
        self._stay(measured)

    def _advance(self, target: Vector7, dt_s: float) -> None:
        """Move the set-point towards a target, and draw it back where the arm becomes too fast behind it."""
        set_point = self._set_point
        set_point.advance(target, dt_s)
        ahead_m = set_point.pose[:3]
        bounded_m = self._governor.bounded(ahead_m, self._measured_pose()[:3], self._joints.velocity(), dt_s)
        if bounded_m is not ahead_m:
            set_point.draw_back(bounded_m)

    def _tick_settling(self, measured: Vector7) -> Reference:
        """Return what the law is told while a hold takes the motion out of the arm."""
        velocity_m_s = self._joints.velocity()
        if self._settling.comes_back(measured[:3], self._set_point.pose[:3], velocity_m_s, self._now_s):
            self._stay(measured)
        return self._settling.braked(self._set_point.reference, velocity_m_s)

    def _stay(self, measured: Vector7) -> None:
        """Put the set-point at a measured pose, which no wall pushes the arm away from."""
        self._set_point.place(measured)
        self._wall.hold_at(measured[:3])

    def _end_hold(self) -> None:
        """Begin a command: after any hold that waits, and against the whole soft wall."""
        self._settle_hold()
        self._wall.restore()

    def _settle_hold(self) -> None:
        """Carry out a hold that waits for its tick now: that tick must not undo a newer command."""
        if self._must_hold:
            self._hold()

    def _tick_wrench(self) -> None:
        """End a wrench whose command is old; hold when the arm has become too fast under it."""
        feed_forward, limits = self._feed_forward, self.limits
        if feed_forward.age_s(self._now_s) > limits.wrench_timeout_s:
            self._on_event("watchdog", f"no wrench for {limits.wrench_timeout_s:g} s: zero")
            feed_forward.clear()
            return
        speed_m_s = feed_forward.speed_m_s(self._now_s, self._measured_pose())
        if speed_m_s > limits.speed_m_s:
            self._on_event("wrench", f"the arm moves at {speed_m_s:.3f} m/s: hold")
            self._must_hold = True

    def _tick_move(self, dt_s: float) -> None:
        now_s, move, measured = self._now_s, self._move, self._measured_pose()
        if move is None:
            self._set_point.place(measured)
            if now_s - self._move_s > self.limits.joint_reset_timeout_s:
                self.latch(RESET_FAILED)
            return
        self._advance(move.target(now_s), dt_s)
        outcome = move.outcome(now_s, self._set_point.is_at_rest, measured, self._wall, self.stiffness_n_m)
        if outcome is None:
            return
        self._jobs.finish("succeeded" if outcome.is_success else "failed", outcome.detail)
        if outcome.is_success:
            self._mode = Mode.HOLD
        else:
            self._must_hold = True

    def _tick_joints(self, measured: Vector7) -> None:
        """Hold, or end a wrench, where a joint inside its margin is driven further in."""
        wrench = self._feed_forward.wrench
        pushed = None if wrench is None else self._joints.pushed_in(wrench.tolist(), measured)
        if pushed is not None:
            self._on_event("wrench", f"{pushed}: zero")
            self._feed_forward.clear()
        if self._mode is Mode.TRACKING:
            ahead = self._target
        elif self._mode is Mode.MOVING and self._move is not None:
            ahead = self._move.ahead(self._now_s)
        else:
            return
        driven = self._joints.driven_in(measured, self._set_point.pose, ahead)
        if driven is not None:
            self._on_event("joint_limit", f"{driven}: hold")
            self._jobs.finish("failed", driven)
            self._hold()

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

    def _begin_job(self, kind: str) -> Job:
        job = self._jobs.begin(kind)
        self._feed_forward.clear()
        self._on_event("mode", kind)
        self._mode = Mode.MOVING
        return job
