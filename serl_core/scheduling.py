"""Scheduling, for the programs that a control tick waits for."""

import gc
import os
import sys

from serl_core.errors import ConfigError

PRIORITY = 10  # of SCHED_FIFO's 1 to 99: before every ordinary process, after the kernel's own threads


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


def priority_behind() -> int | None:
    """Return the SCHED_FIFO priority of a thread that this one goes before; None under ordinary scheduling."""
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_FIFO:
        return None
    return max(os.sched_getparam(0).sched_priority - 1, 1)


def go_behind() -> None:
    """Let this thread go behind the one that has started it, if that goes before others: a step waits for no line."""
    priority = priority_behind()
    if priority is not None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def spare_what_stays() -> None:
    """Let the garbage collector look no more at what there is now, for a program that is set up.

    A full round of it over all that the libraries have made holds every thread, for many ticks of a control loop.
    """
    gc.collect()
    gc.freeze()
