"""Who may command the arm: one lease at a time, fenced by an epoch that only rises."""

from robot_servers.limits import Refusal
from serl_core.robots.messages import Lease


class LeaseBook:
    """Grants the lease and checks each command against it. Times are of the liveness clock, in s.

    Args:
        timeout_s: a holder that has not been heard of for so long has lost the lease.
        first_epoch: the epoch before the first lease.
        commands_per_s: more than that, on the robot's clock, are refused; a burst of a fifth is let through.
    """

    def __init__(self, timeout_s: float, commands_per_s: float, first_epoch: int = 0) -> None:
        self._default_timeout_s = timeout_s
        self._commands_per_s = commands_per_s
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

    def acquire(self, owner: str, now_s: float, timeout_s: float | None = None) -> Lease:
        """Grant a new lease with a higher epoch. Raises Refusal 409 while somebody else holds it."""
        if self._lease is not None:
            detail = f"the arm is commanded by {self._lease.owner!r}, last heard of {now_s - self._heard_s:.1f} s ago"
            raise Refusal(409, "lease_held", detail, field="owner", given=owner, limit=self._lease.owner)
        self._last_epoch += 1
        self._lease = Lease(owner=owner, epoch=self._last_epoch, timeout_s=timeout_s or self._default_timeout_s)
        self._heard_s = now_s
        self._sequence = -1
        self._allowance = self._burst
        return self._lease

    def renew(self, epoch: int, now_s: float) -> Lease:
        """Hear from the holder. Raises Refusal 409 when `epoch` is not the present lease's."""
        lease = self.require(epoch)
        self._heard_s = now_s
        return lease

    def release(self, epoch: int) -> Lease:
        """End the lease. Raises Refusal 409 when `epoch` is not the present lease's."""
        lease = self.require(epoch)
        self._lease = None
        return lease

    def expire(self, now_s: float) -> Lease | None:
        """Take the lease from a silent holder and return it; None when there is nothing to take."""
        lease = self._lease
        if lease is None or now_s - self._heard_s <= lease.timeout_s:
            return None
        self._lease = None
        return lease

    def require(self, epoch: int) -> Lease:
        """Return the present lease. Raises Refusal 409 when `epoch` is not its."""
        if self._lease is None or epoch != self._lease.epoch:
            detail = "the lease is lost or was never taken; acquire it again at /v1/lease"
            raise Refusal(409, "lease", detail, field="epoch", given=epoch)
        return self._lease

    def check_command(self, sequence: int | None, robot_s: float) -> None:
        """Refuse a replayed command (409), and more commands than the rate allows (429). Changes nothing."""
        if sequence is not None and sequence <= self._sequence:
            detail = f"sequence {sequence} does not follow {self._sequence}: the command is old or was sent twice"
            raise Refusal(409, "sequence", detail, field="sequence", given=sequence, limit=self._sequence + 1)
        if self._refilled(robot_s) < 1.0:
            detail = f"more than {self._commands_per_s:g} commands/s"
            raise Refusal(429, "rate", detail, limit=self._commands_per_s)

    def count_command(self, sequence: int | None, robot_s: float, now_s: float) -> None:
        """Take note of an accepted command: it counts for the rate, and as a sign of life."""
        self._allowance = self._refilled(robot_s) - 1.0
        self._allowance_s = robot_s
        self._heard_s = now_s
        if sequence is not None:
            self._sequence = sequence

    @property
    def _burst(self) -> float:
        return 0.2 * self._commands_per_s

    def _refilled(self, robot_s: float) -> float:
        return min(self._burst, self._allowance + (robot_s - self._allowance_s) * self._commands_per_s)
