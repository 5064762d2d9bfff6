"""Starts the robot server again when it has died, a few times at most: each start is a hold, never a motion.

The server is a child process, made before there is any thread. It ends with its supervisor: no server is left alone.
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from robot_servers.stop_memory import StopMemory
from serl_core.errors import SerlError

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
WITHIN_S = 600.0
PAUSE_S = 1.0  # before a restart: the arm and the port are free again
PR_SET_PDEATHSIG = 1
MENDABLE = 2  # status of a server that says what its user must mend


class RestartBudget:
    """So many restarts within 10 minutes. Times are of the monotonic clock, in s."""

    def __init__(self, most: int = MAX_RESTARTS) -> None:
        """Store."""
        self._spent_s: deque[float] = deque(maxlen=most)
        self._most = most

    def take(self, now_s: float) -> bool:
        """Return whether one more is allowed now, and count it."""
        if len(self._spent_s) == self._most and now_s - self._spent_s[0] < WITHIN_S:
            return False
        self._spent_s.append(now_s)
        return True


def supervise(serve: Callable[[StopMemory], None], *, clock: Callable[[], float] = time.monotonic) -> None:
    """Run `serve` in a child process until it ends well; start it anew when it dies.

    SIGTERM, SIGINT and SIGUSR1 are passed on to it. What it notes of a stop in the memory that it is given, the next
    one finds there.

    Raises:
        SerlError: it ended with an error of its own, or died more often than is allowed.
    """
    budget, has_died = RestartBudget(), False
    memory = StopMemory()
    child = _Child(memory)
    before = {
        number: signal.signal(number, child.pass_on) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    }
    try:
        while True:
            status = child.run(lambda: serve(memory))
            if status == 0 or child.is_told_to_end():
                return
            if status == MENDABLE and not has_died:
                raise SystemExit(status)  # it has said why
            has_died = True
            if not budget.take(clock()):
                raise SerlError(
                    f"the robot server died {MAX_RESTARTS + 1} times in {WITHIN_S:g} s, at last with status {status}; "
                    "look at the arm and at the log, then start it again"
                )
            logger.error(
                "the robot server died with status %d; it is started again, and the arm holds, stopped if it was",
                status,
            )
            time.sleep(PAUSE_S)
            if child.is_told_to_end():
                return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """The server's process, one after the other."""

    def __init__(self, memory: StopMemory) -> None:
        self._memory = memory
        self._is_ending = False
        self._pid = 0

    def is_told_to_end(self) -> bool:
        """Return whether a signal has asked for the end."""
        return self._is_ending

    def run(self, serve: Callable[[], None]) -> int:
        """Return the status with which a new process ends; the number of a signal that ended it is negative."""
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _be_the_server(serve, parent)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the process. A stop that finds none is there for the next one."""
        if number == signal.SIGUSR1:
            self._memory.note(lambda: True)
        self._is_ending = self._is_ending or number != signal.SIGUSR1
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _be_the_server(serve: Callable[[], None], parent: int) -> None:
    """Serve and end; never returns."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(parent)
        serve()
        status = 0
    except SerlError as error:
        sys.stderr.write(f"serl robot-server: {error}\n")
        status = 2
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # whatever it was, this process must not go on as a second supervisor
        logger.exception("the robot server died")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Let this process be killed when `parent`, which made it, ends (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
