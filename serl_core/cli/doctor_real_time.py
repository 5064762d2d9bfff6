"""Whether this machine can run a control loop of 1 kHz: kernel, limits and processor. Only a real arm needs it."""

import os
import platform
import resource
from pathlib import Path

from serl_core.cli.doctor_checks import PROC, SYS, Check, Part, Parts, Verdict

CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23  # bits of CapEff, see capabilities(7)

# libfranka runs its control thread at the highest priority of SCHED_FIFO; the lockable memory is what Franka's
# documentation of the real-time set-up asks for.
NEEDED_PRIORITY = 99
NEEDED_LOCKED_BYTES = 102_400 * 1024


def check_kernel(parts: Parts, *, sysfs: Path = SYS, version: str | None = None) -> Check:
    """Say whether the kernel is a real-time one (PREEMPT_RT), which only a real arm needs."""
    flag = sysfs / "kernel" / "realtime"
    version = platform.version() if version is None else version
    is_real_time = (flag.exists() and flag.read_text().strip() == "1") or "PREEMPT_RT" in version
    if is_real_time:
        return Check("kernel", Verdict.OK, f"{platform.release()}, real-time")
    if Part.ROBOT not in parts:
        return Check("kernel", Verdict.OK, f"{platform.release()}, not real-time, which only a real arm needs")
    return Check(
        "kernel",
        Verdict.RED,
        f"{platform.release()} is no real-time kernel (PREEMPT_RT)",
        "install one (Debian: apt install linux-image-rt-amd64; Ubuntu: pro enable realtime-kernel) and boot it; "
        "to try things out all the same: serl robot-server --ignore-realtime",
    )


def check_real_time_limits(
    parts: Parts, *, priority: int | None = None, locked_bytes: int | None = None, capabilities: int | None = None
) -> list[Check]:
    """Say whether this user may run a control thread before all others, and lock its memory; for a real arm only.

    Args:
        parts: that must work here.
        priority: RLIMIT_RTPRIO, -1 for no limit; this process's if not given.
        locked_bytes: RLIMIT_MEMLOCK, likewise.
        capabilities: the effective ones as bits, likewise.
    """
    if Part.ROBOT not in parts:
        return []
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0] if priority is None else priority
    locked_bytes = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if locked_bytes is None else locked_bytes
    capabilities = effective_capabilities() if capabilities is None else capabilities
    return [
        _limit(
            "real-time priority",
            priority,
            NEEDED_PRIORITY,
            has_capability=bool(capabilities >> CAP_SYS_NICE & 1),
            verdict=Verdict.RED,
            line=f"rtprio {NEEDED_PRIORITY}",
        ),
        _limit(
            "lockable memory",
            locked_bytes,
            NEEDED_LOCKED_BYTES,
            has_capability=bool(capabilities >> CAP_IPC_LOCK & 1),
            verdict=Verdict.WARN,
            line=f"memlock {NEEDED_LOCKED_BYTES // 1024}",
        ),
    ]


def effective_capabilities(status: Path = PROC / "self" / "status") -> int:
    """Return this process's effective capabilities as bits; none where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def check_governor(parts: Parts, *, sysfs: Path = SYS) -> list[Check]:
    """Say whether the processor slows down when it has little to do: then a control tick comes late."""
    files = sorted(sysfs.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    if Part.ROBOT not in parts or not files:
        return []
    governors = sorted({file.read_text().strip() for file in files})
    if governors == ["performance"]:
        return [Check("processor speed", Verdict.OK, "governor performance")]
    remedy = "cpupower frequency-set -g performance (Debian: apt install linux-cpupower)"
    return [Check("processor speed", Verdict.WARN, f"governor {', '.join(governors)}", remedy)]


def _limit(what: str, limit: int, needed: int, *, has_capability: bool, verdict: Verdict, line: str) -> Check:
    if has_capability:
        return Check(what, Verdict.OK, "granted by a capability")
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return Check(what, Verdict.OK, "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}")
    user = os.environ.get("USER", "USER")
    remedy = f"a line '{user} - {line}' in /etc/security/limits.conf, then log in again"
    return Check(what, verdict, f"up to {limit}, needed is {needed}", remedy)
