"""What a machine must be like for its part of the system: each check returns one line for `serl doctor`.

A check reads files and limits, and changes nothing. What it reads is an argument, so that each answer can be tested.
"""

import shutil
import socket
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from serl_core.errors import RobotError

SYS = Path("/sys")
PROC = Path("/proc")
LITTLE_DISK_BYTES, TOO_LITTLE_DISK_BYTES = 8 * 2**30, 2**30  # an actor's spool alone may take 4 GiB
PROBE_S = 0.5


class Part(Enum):
    """A part of the system that this machine may have to run."""

    ROBOT = "robot"  # the robot server beside a real arm
    ACTOR = "actor"  # cameras, human input, the policy
    LEARNER = "learner"
    SIM = "sim"  # the robot server with a simulated arm


class Verdict(Enum):
    """What a check came to."""

    OK = "ok"
    WARN = "warn"  # it works, less well, or only a part of it
    RED = "red"  # what was asked for does not work


class Check(NamedTuple):
    """One line of the doctor."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""  # of everything that is not OK


Parts = Collection[Part]


def check_gl(parts: Parts) -> Check:
    """Say how the simulator draws its cameras' pictures, or what it lacks for that."""
    from robot_servers.sim.gl import gl_backend, import_mujoco, open_context

    try:
        import_mujoco()
        open_context().free()
    except RobotError as error:
        why, _, remedy = str(error).partition("; ")
        verdict = Verdict.RED if Part.SIM in parts else Verdict.WARN
        return Check("simulated cameras", verdict, f"{why}; the arm itself is simulated without them", remedy)
    return Check("simulated cameras", Verdict.OK, f"drawn with {gl_backend()}")


def check_gpu(parts: Parts, *, has_plugin: bool, proc: Path = PROC) -> list[Check]:
    """Say whether the learner has a GPU that it can use.

    Args:
        parts: that must work here.
        has_plugin: jax's CUDA plugin is installed.
        proc: where the system says what it has.
    """
    if Part.LEARNER not in parts:
        return []
    if not (proc / "driver" / "nvidia" / "version").exists():
        remedy = "learn on a machine with an NVIDIA GPU and its driver; on the CPU it is slower"
        return [Check("GPU", Verdict.WARN, "no NVIDIA driver", remedy)]
    if not has_plugin:
        return [Check("GPU", Verdict.WARN, "jax would use the CPU", "pip install 'serl[learner,cuda]'")]
    return [Check("GPU", Verdict.OK, "NVIDIA driver and jax's CUDA plugin")]


def check_port(what: str, port: int, is_ours: str | None) -> Check:
    """Say whether a program can listen on a port of this machine.

    Args:
        what: which program would.
        port: of 127.0.0.1.
        is_ours: what already listens there and belongs to us, or None.
    """
    name = f"port {port}, {what}"
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if is_ours is not None:
            return Check(name, Verdict.OK, f"in use by {is_ours}")
        remedy = f"end what holds it (ss -tlnp 'sport = :{port}' names it), or choose another with --port"
        return Check(name, Verdict.RED, f"in use: {error.strerror}", remedy)
    return Check(name, Verdict.OK, "free")


def greeting_of(port: int) -> bytes:
    """Return what a program on a port of this machine says first, without being asked: the learner's protocol does."""
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_S) as connection:
            connection.settimeout(PROBE_S)
            return connection.recv(10)
    except OSError:
        return b""


def check_disk(folder: Path, *, free_bytes: int | None = None) -> Check:
    """Say how much room there is for a run."""
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    found = f"{free / 2**30:.1f} GiB free at {folder}"
    if free >= LITTLE_DISK_BYTES:
        return Check("disk", Verdict.OK, found)
    verdict = Verdict.WARN if free >= TOO_LITTLE_DISK_BYTES else Verdict.RED
    return Check("disk", verdict, found, "make room, or keep runs elsewhere: what is not learned yet may take 4 GiB")
