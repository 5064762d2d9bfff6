"""What stands between a command and the arm's driver: one at a time, on fresh readings, by the holder of the lease."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robot_servers.backend import RobotBackend
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service_parts.counters import CommandCounter

TURN_S = 0.01  # how long a command waits for another one of the driver's
LOOK_AGAIN_S = 0.1  # a machine that was asleep has its first control tick within this


class Gate:
    """Serialises the commands, and knows whether the control loop is alive.

    Args:
        backend: the arm.
        kernel: above it.
        limits: the kernel's.
        liveness: the clock of the backend's signs of life, in s.

    Attributes:
        lock: guards the kernel, for microseconds: the control loop takes it too.
        liveness: as given.
        counter: of the commands.
    """

    def __init__(
        self, backend: RobotBackend, kernel: SafetyKernel, limits: SafetyLimits, liveness: Callable[[], float]
    ) -> None:
        self.lock = threading.Lock()
        self.liveness = liveness
        self.counter = CommandCounter()
        self._backend = backend
        self._kernel = kernel
        self._limits = limits
        self._commands = threading.RLock()  # backends take one call at a time
        self._tick_live_s = 0.0
        self._silence_seen_s: tuple[float, float] | None = None  # the newest tick, and the first look that found it old

    def ticked(self, live_s: float) -> None:
        """Take note of a control tick."""
        self._tick_live_s = live_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one command at a time reach the driver; refuse the others while it takes long, as a recovery may."""
        if not self._commands.acquire(timeout=-1 if self._backend.is_lockstep else TURN_S):
            self.counter.reject("busy")
            raise Refusal(409, "busy", "the arm's driver is still at another command; try again when it is done")
        try:
            yield
            self.counter.accept()
        except Refusal as refusal:
            self.counter.reject(refusal.kind)
            raise
        finally:
            self._commands.release()

    def require_free(self, epoch: int) -> None:
        """Refuse a command on old readings (503), without the lease (409), or to a latched arm (423)."""
        self.require_fresh()
        with self.lock:
            self._kernel.check_free(epoch)

    def require_fresh(self) -> None:
        """Refuse a command on old readings (503)."""
        if self.is_stale():
            raise Refusal(503, "stale", "the backend has gone quiet; the arm's state is old")

    def state_age_s(self) -> float:
        """Return how long ago the newest control tick was; 0 in lockstep, where there is none between commands."""
        return 0.0 if self._backend.is_lockstep else max(0.0, self.liveness() - self._tick_live_s)

    def is_stale(self) -> bool:
        """Return whether control ticks have ceased; latch when they are gone for long.

        It takes two looks to latch: after a machine was asleep, who looks first may come before the control loop.
        """
        tick_s, now_s = self._tick_live_s, self.liveness()
        if self._backend.is_lockstep or now_s - tick_s <= self._limits.state_timeout_s:
            return False
        seen = self._silence_seen_s
        if seen is None or seen[0] != tick_s:
            self._silence_seen_s = seen = tick_s, now_s
        if now_s - tick_s > self._limits.backend_timeout_s and now_s - seen[1] >= LOOK_AGAIN_S:
            with self.lock:
                self._kernel.latch("backend_lost")
        return True
