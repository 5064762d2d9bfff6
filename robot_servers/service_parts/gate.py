"""What stands between a command and the arm's driver: one at a time, on fresh readings, by the holder of the lease."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robot_servers.backend import RobotBackend
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal, SafetyLimits

TURN_S = 0.01  # how long a command waits for another one of the driver's


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
    """

    def __init__(
        self, backend: RobotBackend, kernel: SafetyKernel, limits: SafetyLimits, liveness: Callable[[], float]
    ) -> None:
        self.lock = threading.Lock()
        self.liveness = liveness
        self._backend = backend
        self._kernel = kernel
        self._limits = limits
        self._commands = threading.RLock()  # backends take one call at a time
        self._tick_live_s = 0.0

    def ticked(self, live_s: float) -> None:
        """Take note of a control tick."""
        self._tick_live_s = live_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one command at a time reach the driver; refuse the others while it takes long, as a recovery may."""
        if not self._commands.acquire(timeout=-1 if self._backend.is_lockstep else TURN_S):
            raise Refusal(409, "busy", "the arm's driver is still at another command; try again when it is done")
        try:
            yield
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

    def is_stale(self) -> bool:
        """Return whether control ticks have ceased; latch when they are gone for long."""
        if self._backend.is_lockstep:
            return False
        silence_s = self.liveness() - self._tick_live_s
        if silence_s > self._limits.backend_timeout_s:
            with self.lock:
                self._kernel.latch("backend_lost")
        return silence_s > self._limits.state_timeout_s
