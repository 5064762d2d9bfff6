"""Key files for the line between actor and learner: who may connect, and how both know each other (CurveZMQ).

On the learner's machine a folder has ``learner.json``, the learner's own pair, and ``admitted/NAME.json``, the public
key of each actor that may connect. ``for_actors/NAME.json`` is what that actor's machine gets, and then needs to be
nowhere else. All files are readable by their owner alone.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import zmq

from serl_core.errors import ConfigError

NAME = re.compile(r"\A[0-9A-Za-z_-]{1,64}\Z")  # becomes a file's name

Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]  # Z85


class LearnerKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The learner's pair."""

    public: Key
    secret: Key


class AdmittedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an actor that may connect."""

    public: Key


class ActorKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an actor's machine has: its own pair, and by what it knows its learner."""

    learner_public: Key
    public: Key
    secret: Key


def create_keys(folder: Path, names: Iterable[str]) -> list[Path]:
    """Make the learner's pair and one for each actor; return the files for the actors.

    Raises:
        ConfigError: there are keys already, or a name is not allowed.
    """
    names = [_checked(name) for name in names]
    if (folder / "learner.json").exists():
        raise ConfigError(f"{folder} has keys already; `serl keys add` makes one more, or name another folder")
    public, secret = zmq.curve_keypair()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / "learner.json", LearnerKeys(public.decode(), secret.decode()))
    return [add_actor(folder, name) for name in names]


def add_actor(folder: Path, name: str) -> Path:
    """Make the keys of one more actor, which may connect at once; return the file for it.

    Raises:
        ConfigError: the name is taken or not allowed, or the folder has no keys.
    """
    learner = load_learner_keys(folder)
    admitted, given = (folder / place / f"{_checked(name)}.json" for place in ("admitted", "for_actors"))
    if admitted.exists():
        raise ConfigError(f"{folder} has an actor {name!r} already; revoke it first, or take another name")
    public, secret = zmq.curve_keypair()
    for path in (admitted, given):
        path.parent.mkdir(exist_ok=True, mode=0o700)
    given.unlink(missing_ok=True)  # of one that was revoked
    _write(given, ActorKeys(learner.public, public.decode(), secret.decode()))
    _write(admitted, AdmittedKey(public.decode()))
    return given


def revoke_actor(folder: Path, name: str) -> None:
    """Let an actor connect no more, and end its connection within a second.

    Raises:
        ConfigError: there is none of this name.
    """
    admitted = folder / "admitted" / f"{_checked(name)}.json"
    if not admitted.exists():
        found = sorted(path.stem for path in admitted.parent.glob("*.json"))
        raise ConfigError(f"{folder} has no actor {name!r}; there are {', '.join(found) or 'none'}")
    admitted.unlink()
    (folder / "for_actors" / admitted.name).unlink(missing_ok=True)


def load_learner_keys(folder: Path) -> LearnerKeys:
    """Return the learner's pair. Raises ConfigError when it is missing, or readable by others."""
    return _read(folder / "learner.json", LearnerKeys, "`serl keys init` makes it")


def load_actor_keys(path: Path) -> ActorKeys:
    """Return an actor's keys. Raises ConfigError when they are missing, or readable by others."""
    return _read(path, ActorKeys, "`serl keys add` makes it on the learner's machine; copy it from there")


def admitted_keys(folder: Path) -> dict[str, str]:
    """Return the names of the actors that may connect, by public key. A file that cannot be read admits nobody."""
    admitted: dict[str, str] = {}
    for path in (folder / "admitted").glob("*.json"):
        try:
            admitted[_read(path, AdmittedKey, "").public] = path.stem
        except ConfigError:
            continue
    return admitted


_T = TypeVar("_T", bound=msgspec.Struct)


def _read(path: Path, kind: type[_T], remedy: str) -> _T:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"key file {path} is open to other users; `chmod 600` it, or make new keys")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read ({error.strerror}); {remedy}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"key file {path} is not one of this kind ({error}); {remedy}") from None


def _write(path: Path, keys: msgspec.Struct) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(keys) + b"\n")


def _checked(name: str) -> str:
    if not NAME.match(name):
        raise ConfigError(f"actor name {name!r}: allowed are 1 to 64 letters, digits, '-' and '_'")
    return name
