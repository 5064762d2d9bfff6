"""Whether this computer may send torques every millisecond: 20 missed in a row, and the arm stops itself."""

import os
import resource
from pathlib import Path

from serl_core.errors import ConfigError

FLAG = Path("/sys/kernel/realtime")  # holds 1 under a kernel with PREEMPT_RT
PRIORITY = 99  # libfranka gives its control thread the highest

IGNORE = "or pass --ignore-realtime, and expect the arm to stop now and then"


def check_realtime(flag: Path = FLAG, priority: int | None = None) -> None:
    """Refuse a computer whose kernel or limits do not let the control thread go before all others.

    Args:
        flag: the file by which a real-time kernel says so.
        priority: the highest real-time priority that this process may take; asked of the system if None.

    Raises:
        ConfigError: which of the two is missing, with the remedy.
    """
    try:
        is_realtime = flag.read_text().strip() == "1"
    except OSError:
        is_realtime = False
    if not is_realtime:
        raise ConfigError(
            f"the kernel {os.uname().release} has no real-time scheduling, which the arm's control needs; "
            f"boot one with PREEMPT_RT (uname -v shows it), {IGNORE}"
        )
    allowed = allowed_priority() if priority is None else priority
    if allowed < PRIORITY:
        raise ConfigError(
            f"this user may take real-time priorities up to {allowed}, libfranka needs {PRIORITY}; "
            f"add 'rtprio {PRIORITY}' and 'memlock unlimited' to /etc/security/limits.conf and log in again, {IGNORE}"
        )


def allowed_priority() -> int:
    """Return the highest real-time priority that this process may take, at most `PRIORITY`."""
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    is_free = os.geteuid() == 0 or limit == resource.RLIM_INFINITY
    return PRIORITY if is_free else min(limit, PRIORITY)
