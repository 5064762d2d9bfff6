"""Real-time scheduling, for the programs that a control tick waits for."""

import os

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
