"""Where the actor's operator link is: the file that an actor leaves in its run's folder."""

import ipaddress
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from serl_core.operator.messages import ADDRESS_SUFFIX, OperatorAddress


class Found(NamedTuple):
    """An actor that may be there."""

    actor_id: str
    address: OperatorAddress | None
    problem: str | None  # why its file cannot be used


def find_actor(
    run: Path, actor_id: str | None, is_ours: Callable[[OperatorAddress], bool] = lambda _: True
) -> Found | None:
    """Return the actor of that name, or the one whose file is newest; None when there is no file.

    A file that others can write, or that leads to another machine, is not used: the token goes there.

    Args:
        run: folder of the files.
        actor_id: None: any; then one that is not ours counts only where there is no other.
        is_ours: whether an actor commands the robot that the console stops.
    """
    names = f"{actor_id}{ADDRESS_SUFFIX}" if actor_id is not None else f"*{ADDRESS_SUFFIX}"
    files = []
    for path in run.glob(names):
        try:
            files.append((path.stat().st_mtime_ns, path))
        except OSError:  # it has just ended
            continue
    if not files:
        return None
    found = [actor for _, path in sorted(files, reverse=True) if (actor := _read(path)) is not None]
    ours = (actor for actor in found if actor.address is None or is_ours(actor.address))
    return next(ours, found[0] if found else None)


def _read(path: Path) -> Found | None:
    """Return what a file says; None when it is gone."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o022:
            return Found(path.stem, None, f"{path} can be written by others; run chmod 600")
        address = msgspec.json.decode(path.read_bytes(), type=OperatorAddress)
    except OSError:
        return None
    except msgspec.DecodeError as error:
        return Found(path.stem, None, f"{path} is no operator file: {error}")
    if not _is_here(address.address):
        return Found(path.stem, None, f"{path}: {address.address!r} is not on this machine")
    return Found(path.stem, address, None)


def _is_here(address: str) -> bool:
    parts = urlsplit(address)
    try:
        return bool(parts.scheme == "tcp" and parts.port) and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
