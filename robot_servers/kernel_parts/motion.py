"""What an arm does from tick to tick: it holds, follows a target, makes a move, or a joint reset leads it."""

from collections.abc import Callable

from robot_servers.backend import Reference
from robot_servers.kernel_parts.feed_forward import FeedForward
from robot_servers.kernel_parts.guidance import Guidance
from robot_servers.kernel_parts.jobs import Jobs
from robot_servers.kernel_parts.joint_guard import JointGuard
from robot_servers.kernel_parts.latches import RESET_FAILED, Latches
from robot_servers.kernel_parts.server_move import ServerMove
from robot_servers.kernel_parts.slew import MinimumJerk
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import JOINT_LIMIT, Job, Mode, Vector6, Vector7


class Motion:
    """Times are of the robot's clock; `measured` is the newest pose. What is begun here was checked before.

    Args:
        limits: of the kernel.
        joints: with the newest reading.
        wall: pushes on top of what is commanded.
        latches: end a motion, and freeze the arm.
        on_event: told of every change.

    Attributes:
        mode: HOLD, TRACKING or MOVING, whatever is latched.
        must_hold: at the next tick, the set-point becomes the measured pose.
        jobs: moves and joint resets as their clients see them.
        command_s: when the newest target came.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        joints: JointGuard,
        wall: SoftWall,
        latches: Latches,
        on_event: Callable[[str, str], None],
    ) -> None:
        self.mode = Mode.HOLD
        self.must_hold = True
        self.jobs = Jobs(on_event)
        self.command_s = 0.0
        self._limits = limits
        self._joints = joints
        self._wall = wall
        self._latches = latches
        self._on_event = on_event
        self._guidance = Guidance(limits, joints, wall)
        self._feed_forward = FeedForward(limits, on_event)
        self._target: Vector7 = self._guidance.pose
        self._move: ServerMove | None = None  # None in a joint reset
        self._reset_s = 0.0  # its begin

    @property
    def is_pushing(self) -> bool:
        """There is a feed-forward wrench."""
        return self._feed_forward.wrench is not None

    @property
    def is_joint_reset(self) -> bool:
        """The joints lead, and the set-point follows them."""
        return self.mode is Mode.MOVING and self._move is None

    def tick(self, now_s: float, dt_s: float, measured: Vector7, *, is_clear: bool, stiffness_n_m: float) -> Reference:
        """Return the set-point of this tick, and the wrench: the commanded one and the soft wall's.

        Args:
            now_s: of this tick.
            dt_s: since the last.
            measured: in this tick.
            is_clear: no wall pushes there.
            stiffness_n_m: of the spring.
        """
        feed_forward, guidance, braked = self._feed_forward, self._guidance, None
        is_pushed = feed_forward.wrench is not None or not (is_clear or self._wall.is_relieved)
        is_idle = self.mode is Mode.HOLD and not (is_pushed or guidance.is_settling)
        if feed_forward.wrench is not None and feed_forward.is_too_fast(now_s, measured):
            self.must_hold = True
        if self.must_hold or (self._latches.is_stopped and not is_idle):
            self.hold(now_s, measured)
        elif self.mode is Mode.TRACKING:
            if now_s - self.command_s > self._limits.command_timeout_s:
                self._on_event("watchdog", f"no command for {self._limits.command_timeout_s:g} s: hold")
                self.hold(now_s, measured)
            else:
                guidance.advance(self._target, measured, dt_s)
        elif self.mode is Mode.MOVING:
            self._tick_move(now_s, dt_s, measured, stiffness_n_m)
        elif guidance.is_settling:
            braked = guidance.braked(measured, now_s)
        if self._joints.is_near:
            self._tick_joints(now_s, measured)
        reference, wrench = braked or guidance.reference, feed_forward.wrench
        if not is_clear and self._latches.cause is None:
            push = self._wall.wrench(measured)
            wrench = push if wrench is None else push + wrench
        return reference if wrench is None else reference._replace(wrench=wrench)

    def hold(self, now_s: float, measured: Vector7) -> None:
        """Freeze the set-point at the pose measured now."""
        self.must_hold = False
        self._feed_forward.clear()
        self.jobs.finish("cancelled", self._latches.cause or "held")
        if self.mode is not Mode.HOLD:
            self._on_event("mode", "hold")
            self.mode = Mode.HOLD
        if self._latches.cause is None:
            self._guidance.settle(measured, now_s)
        else:
            self._guidance.freeze(measured)

    def resume(self) -> None:
        """Hold where the arm is, after a stop."""
        self.must_hold = True
        self.mode = Mode.HOLD
        self.jobs.finish("cancelled", "stopped")

    # ---- what is begun: after any hold that waits, for its tick must not undo a newer command

    def follow(self, target: Vector7, now_s: float, measured: Vector7) -> None:
        """Follow a target from now on, for as long as others come in time."""
        self._begin(now_s, measured)
        self._target = target
        self.command_s = now_s
        if self.mode is not Mode.TRACKING:
            self._on_event("mode", "tracking")
            self.mode = Mode.TRACKING

    def push(self, wrench: Vector6, now_s: float, measured: Vector7) -> None:
        """Push with a wrench (tool frame) on top of the impedance, until its time-out."""
        self._begin(now_s, measured)
        if self._feed_forward.wrench is None:
            self._on_event("wrench", "on")
        self._feed_forward.command(wrench, now_s, measured)

    def start_of_move(self, measured: Vector7) -> Vector7:
        """Return where a move would begin now."""
        return measured if self.must_hold else self._guidance.pose

    def begin_move(self, path: MinimumJerk, now_s: float, measured: Vector7) -> Job:
        """Make a move of the server."""
        self._begin(now_s, measured)
        self._move = ServerMove(path, now_s)
        return self._begin_job("move")

    def begin_joint_reset(self, now_s: float, measured: Vector7) -> Job:
        """Follow the measured pose: the backend moves the joints, the set-point is unheeded until it ends."""
        self._end_hold(now_s, measured)
        self._move = None
        self._reset_s = now_s
        return self._begin_job("joint_reset")

    def end_joint_reset(self) -> None:
        """Take control back: the arm is at its rest posture, and holds where it is."""
        self.jobs.finish("succeeded", "")
        self.must_hold = True

    # ---- inside

    def _end_hold(self, now_s: float, measured: Vector7) -> None:
        if self.must_hold:
            self.hold(now_s, measured)

    def _begin(self, now_s: float, measured: Vector7) -> None:
        self._end_hold(now_s, measured)
        self._wall.restore()  # against the whole of it

    def _begin_job(self, kind: str) -> Job:
        job = self.jobs.begin(kind)
        self._feed_forward.clear()
        self._on_event("mode", kind)
        self.mode = Mode.MOVING
        return job

    def _tick_move(self, now_s: float, dt_s: float, measured: Vector7, stiffness_n_m: float) -> None:
        guidance, move = self._guidance, self._move
        if move is None:
            guidance.place(measured)
            if now_s - self._reset_s > self._limits.joint_reset_timeout_s and self._latches.fail(RESET_FAILED):
                self.must_hold = True
            return
        guidance.advance(move.target(now_s), measured, dt_s)
        outcome = move.outcome(now_s, guidance.is_at_rest, measured, self._wall, stiffness_n_m)
        if outcome is None:
            return
        self.jobs.finish("succeeded" if outcome.is_success else "failed", outcome.detail)
        if outcome.is_success:
            self.mode = Mode.HOLD
        else:
            self.must_hold = True

    def _tick_joints(self, now_s: float, measured: Vector7) -> None:
        """Hold, or end a wrench, where a joint inside its margin is driven further in."""
        wrench = self._feed_forward.wrench
        pushed = None if wrench is None else self._joints.pushed_in(wrench.tolist(), measured)
        if pushed is not None:
            self._on_event("wrench", f"{pushed}: zero")
            self._feed_forward.clear()
        if self.mode is Mode.TRACKING:
            ahead = self._target
        elif self.mode is Mode.MOVING and self._move is not None:
            ahead = self._move.ahead(now_s)
        else:
            return
        driven = self._joints.driven_in(measured, self._guidance.pose, ahead)
        if driven is not None:
            self._on_event(JOINT_LIMIT, f"{driven}: hold")
            self.jobs.finish("failed", driven, JOINT_LIMIT)
            self.hold(now_s, measured)
