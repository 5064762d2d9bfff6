"""Scheduling, for the programs that a control tick waits for."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from serl_core.errors import ConfigError

NICE = 10  # of 0 to 19: a tenth of an ordinary thread's share where there is not enough for both
PRIORITY = 10  # of SCHED_FIFO's 1 to 99: before every ordinary process, after the kernel's own threads
LAST_PRIORITY = 1  # likewise, and after all threads of ours that go before others


def go_before_others() -> None:
    """Run this thread, and those it starts from now on, before every ordinary process (``SCHED_FIFO``).

    Raises:
        ConfigError: the system does not allow it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except (AttributeError, OSError) as error:
        raise ConfigError(
            f"--real-time-priority: the system does not grant SCHED_FIFO at priority {PRIORITY} ({error}); allow it "
            f"with a line 'USER - rtprio {PRIORITY}' in /etc/security/limits.conf, or leave the option out"
        ) from None


@contextmanager
def before_others(*, is_wanted: bool = True) -> Iterator[None]:
    """Go before every ordinary process, if that is wanted, for as long as threads are started that shall do so.

    Raises:
        ConfigError: the system does not allow it.
    """
    if not is_wanted:
        yield
        return
    go_before_others()
    try:
        yield
    finally:
        go_with_others()


def go_behind() -> None:
    """Let this thread go behind the one that has started it, if that goes before others: a step waits for no line."""
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_FIFO:
        behind = max(os.sched_getparam(0).sched_priority - 1, 1)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(behind))


def go_with_others() -> None:
    """Let this thread go as every ordinary process does."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def go_after_others() -> None:
    """Let this thread go after the ordinary ones: for work that holds no other thread up and has time."""
    if sys.platform == "linux":
        go_with_others()
        os.setpriority(os.PRIO_PROCESS, 0, NICE)  # of the thread, on Linux


def spare_what_stays() -> None:
    """Let the garbage collector look no more at what there is now, for a program that is set up.

    A full round of it over all that the libraries have made holds every thread, for many ticks of a control loop.
    """
    gc.collect()
    gc.freeze()
