"""What keeps an arm from moving until somebody has looked: its fault, and the software stop (SAFETY 1.4 and 2.2)."""

from collections.abc import Callable

from robot_servers.kernel_parts.stop_latch import Stop, StopLatch
from robot_servers.limits import Refusal

JOINT_SPEED = "joint_speed"
NUMERIC_FAULT = "numeric_fault"
OUTSIDE_BOX = "outside_box"
RESET_FAILED = "reset_failed"


class Latches:
    """Both may be set at once: then the fault's cause is the one that is told, and each is cleared on its own.

    Checks raise `Refusal` and change nothing.
    """

    def __init__(self, on_event: Callable[[str, str], None]) -> None:
        """Latch nothing; `on_event` is told of every fault."""
        self._on_event = on_event
        self._stop = StopLatch()
        self.fault: str | None = None

    @property
    def cause(self) -> str | None:
        """Of the fault, else of the stop; None where neither is set."""
        stop = self._stop.present
        return self.fault or (None if stop is None else stop.cause)

    @property
    def is_stopped(self) -> bool:
        """A stop is latched, also under a fault."""
        return self._stop.is_set

    def fail(self, cause: str) -> bool:
        """Latch a fault and return True, unless there is one already: the first cause is the one to mend."""
        is_first = self.fault is None
        if is_first:
            self._on_event("fault", cause)
            self.fault = cause
        return is_first

    def stop(self, cause: str) -> None:
        """Latch a stop. One assignment: safe from any thread, without a lock."""
        self._stop.set(cause)

    def present_stop(self) -> Stop:
        """Return the stop to be cleared, or refuse (409) where there is none."""
        stop = self._stop.present
        if stop is None:
            raise Refusal(409, "not_stopped", "the arm is not stopped")
        return stop

    def clear_stop(self, seen: Stop) -> None:
        """Clear the stop that was seen, and none that came meanwhile."""
        self._stop.clear(seen)

    def clear_fault(self) -> None:
        """Clear the fault."""
        self.fault = None

    def check_free(self) -> None:
        """Refuse a command (423) while either is set."""
        cause = self.cause
        if cause is not None:
            remedy = "/v1/recover" if self.fault is not None else "/v1/resume"
            raise Refusal(423, "latched", f"the arm is latched by {cause!r}; look, then {remedy}", given=cause)

    def check_recover(self, cause: str) -> None:
        """Refuse to clear a fault that is not the present one: its cause must have been seen."""
        if self.fault is None:
            raise Refusal(409, "no_fault", "the arm is in no fault")
        if cause != self.fault:
            detail = f"the present fault is {self.fault!r}, not {cause!r}"
            raise Refusal(422, "cause", detail, field="cause", given=cause, limit=self.fault)

    def check_own_recovery(self, cause: str) -> None:
        """Refuse to clear a fault without a client's request that is no longer the present one, or a stopped arm's."""
        if self.fault != cause or self.is_stopped:
            raise Refusal(409, "cause", f"the arm is latched by {self.cause!r}", given=cause, limit=self.cause)
