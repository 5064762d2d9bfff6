"""Who may command the arm: one lease at a time, fenced by an epoch that only rises."""

from robot_servers.kernel_parts.transit import Transit
from robot_servers.limits import Refusal
from serl_core.robots.messages import Lease


class LeaseBook:
    """Grants the lease and checks each command against it. Times are of the liveness clock, in s.

    Args:
        timeout_s: a holder that has not been heard of for so long has lost the lease.
        first_epoch: the epoch before the first lease.
        commands_per_s: more than that, on the robot's clock, are refused; a burst of a fifth is let through.
        command_age_s: a command that was on its way for so much longer than others is refused.

    Attributes:
        pose_epoch: rises with every lease that ran out. The next client must know it, so that it has read since
            then where the arm was left.
    """

    def __init__(
        self, timeout_s: float, commands_per_s: float, first_epoch: int = 0, command_age_s: float = 0.2
    ) -> None:
        self.pose_epoch = 0
        self._default_timeout_s = timeout_s
        self._commands_per_s = commands_per_s
        self._command_age_s = command_age_s
        self._must_read = False  # a holder was lost, and nobody has taken its place yet
        self._acquired_s = 0.0
        self._live_s = 0.0  # the newest time that was told
        self._transit = Transit()
        self._last_epoch = first_epoch
        self._lease: Lease | None = None
        self._heard_s = 0.0
        self._sequence = -1
        self._allowance = 0.0
        self._allowance_s = 0.0

    @property
    def epoch(self) -> int:
        """The present lease's epoch; 0 when nobody holds it."""
        return 0 if self._lease is None else self._lease.epoch

    def acquire(self, owner: str, now_s: float, timeout_s: float | None = None, pose_epoch: int | None = None) -> Lease:
        """Grant a new lease with a higher epoch.

        Args:
            owner: who asks.
            now_s: the liveness clock.
            timeout_s: instead of the default.
            pose_epoch: that the client has read in the state, if it has.

        Raises:
            Refusal: 409 while somebody else holds it, or when the last holder was lost and `pose_epoch` is not
                the present one.
        """
        self._live_s = now_s
        if self._lease is not None:
            raise Refusal(
                409, "lease_held", self._holder(self._lease), field="owner", given=owner, limit=self._lease.owner
            )
        if self._must_read and pose_epoch != self.pose_epoch:
            detail = "the last holder of the lease was lost; read the state, and send its pose_epoch with the request"
            raise Refusal(409, "pose_epoch", detail, field="pose_epoch", given=pose_epoch, limit=self.pose_epoch)
        self._must_read = False
        self._last_epoch += 1
        self._lease = Lease(owner=owner, epoch=self._last_epoch, timeout_s=timeout_s or self._default_timeout_s)
        self._heard_s = self._acquired_s = now_s
        self._sequence = -1
        self._allowance = self._burst
        self._transit = Transit()
        return self._lease

    def renew(self, epoch: int, now_s: float) -> Lease:
        """Hear from the holder. Raises Refusal 409 when `epoch` is not the present lease's."""
        lease = self.require(epoch)
        self._heard_s = self._live_s = now_s
        return lease

    def release(self, epoch: int) -> Lease:
        """End the lease. Raises Refusal 409 when `epoch` is not the present lease's."""
        lease = self.require(epoch)
        self._lease = None
        return lease

    def expire(self, now_s: float) -> Lease | None:
        """Take the lease from a silent holder and return it; None when there is nothing to take."""
        self._live_s = now_s
        lease = self._lease
        if lease is None or now_s - self._heard_s <= lease.timeout_s:
            return None
        self._lease = None
        self._must_read = True
        self.pose_epoch += 1
        return lease

    def require(self, epoch: int) -> Lease:
        """Return the present lease. Raises Refusal 409 when `epoch` is not its, with the name of who has it."""
        lease = self._lease
        if lease is None or epoch != lease.epoch:
            who = "" if lease is None else f": {self._holder(lease)}"
            detail = f"the lease is lost or was never taken{who}; acquire it again at /v1/lease"
            raise Refusal(
                409, "lease", detail, field="epoch", given=epoch, limit=None if lease is None else lease.owner
            )
        return lease

    def check_command(
        self, sequence: int | None, robot_s: float, sent_s: float | None = None, live_s: float = 0.0
    ) -> None:
        """Refuse a replayed or late command (409), and more commands than the rate allows (429). Changes nothing."""
        if sequence is not None and sequence <= self._sequence:
            detail = f"sequence {sequence} does not follow {self._sequence}: the command is old or was sent twice"
            raise Refusal(409, "sequence", detail, field="sequence", given=sequence, limit=self._sequence + 1)
        late_s = 0.0 if sent_s is None else self._transit.delay_s(sent_s, live_s)
        if late_s > self._command_age_s:
            detail = (
                f"the command was {late_s:.3f} s longer on its way than others, allowed is {self._command_age_s:g} s; "
                "look at the state and send another"
            )
            raise Refusal(409, "stale_command", detail, field="sent_s", given=sent_s, limit=self._command_age_s)
        if self._refilled(robot_s) < 1.0:
            detail = f"more than {self._commands_per_s:g} commands/s"
            raise Refusal(429, "rate", detail, limit=self._commands_per_s)

    def count_command(self, sequence: int | None, robot_s: float, now_s: float, sent_s: float | None = None) -> None:
        """Take note of an accepted command: it counts for the rate, and as a sign of life."""
        self._allowance = self._refilled(robot_s) - 1.0
        self._allowance_s = robot_s
        self._heard_s = self._live_s = now_s
        if sequence is not None:
            self._sequence = sequence
        if sent_s is not None:
            self._transit.note(sent_s, now_s)

    def _holder(self, lease: Lease) -> str:
        held_s, heard_s = self._live_s - self._acquired_s, self._live_s - self._heard_s
        return (
            f"the arm is commanded by {lease.owner!r}, last heard of {heard_s:.1f} s ago, who has it for {held_s:.1f} s"
        )

    @property
    def _burst(self) -> float:
        return 0.2 * self._commands_per_s

    def _refilled(self, robot_s: float) -> float:
        return min(self._burst, self._allowance + (robot_s - self._allowance_s) * self._commands_per_s)
