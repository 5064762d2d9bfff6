"""Recovers from a reflex without being asked, a few times at most, where the limits file allows it.

Off by default: a reflex is a collision, and a person should look. Anything else than a reflex (power, a joint's
limit, a self-collision, a stop, a lost connection) is never recovered from here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from robot_servers.audit import AuditLog
from robot_servers.backend import REFLEX
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal
from robot_servers.service_parts.recovery import Recovery
from serl_core.errors import RobotError

logger = logging.getLogger(__name__)

WITHIN_S = 600.0
WAIT_S = 1.0  # the arm comes to rest, and a client that steps at 1 Hz or more sees the fault and ends its episode
LOOK_S = 0.05


class RecoveryBudget:
    """So many automatic recoveries within 10 minutes. Times are of the liveness clock, in s."""

    def __init__(self, most: int) -> None:
        """Store."""
        self._spent_s: deque[float] = deque(maxlen=most)
        self._most = most

    def allows(self, cause: str, now_s: float) -> bool:
        """Return whether a fault of this cause may be recovered from now."""
        if cause != REFLEX or self._most == 0:
            return False
        return len(self._spent_s) < self._most or now_s - self._spent_s[0] >= WITHIN_S

    def spend(self, now_s: float) -> None:
        """Take note of a recovery, whether it succeeds or not."""
        self._spent_s.append(now_s)


class AutomaticRecovery:
    """A thread that looks at the kernel; started only where the limits allow a recovery.

    Args:
        kernel: whose faults.
        recovery: what clears them.
        most: within 10 minutes.
        liveness: the clock, in s.
        audit: told of each.

    Attributes:
        count: of the recoveries that were tried.
    """

    def __init__(
        self,
        kernel: SafetyKernel,
        recovery: Recovery,
        most: int,
        liveness: Callable[[], float],
        audit: AuditLog,
    ) -> None:
        self.count = 0
        self._kernel = kernel
        self._recovery = recovery
        self._budget = RecoveryBudget(most)
        self._liveness = liveness
        self._audit = audit
        self._since_s: float | None = None  # of the fault
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._is_ending.clear()
        self._thread = threading.Thread(target=self._run, name="automatic-recovery", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End. Safe to call twice."""
        self._is_ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._is_ending.wait(LOOK_S):
            self.look(self._liveness())

    def look(self, now_s: float) -> None:
        """Recover if that is due at `now_s`."""
        cause = self._kernel.own_fault
        if cause is None:
            self._since_s = None
            return
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < WAIT_S or self._kernel.is_stopped or not self._budget.allows(cause, now_s):
            return
        self._budget.spend(now_s)
        self.count += 1
        self._since_s = now_s  # a next try waits as long
        self._audit.note("recover", f"{cause}: automatic, as the limits file allows")
        logger.warning("the arm recovers from %s by itself, as the limits file allows", cause)
        try:
            self._recovery.by_itself(cause)
        except (Refusal, RobotError) as error:
            logger.warning("it did not recover: %s", error)
