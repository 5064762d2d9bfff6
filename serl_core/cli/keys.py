"""`serl keys init|add|revoke`: which actors may connect to a learner on another machine. Run it on the learner's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serl_core.transport.keys import add_actor, create_keys, revoke_actor


@dataclass(frozen=True, kw_only=True)
class InitKeys:
    """Make the learner's keys, and one pair for each actor."""

    folder: Path
    """Of all keys, for `serl learner --keys`; readable by you alone."""
    actors: tuple[str, ...] = ("actor-0",)
    """A name for each actor's machine."""


@dataclass(frozen=True, kw_only=True)
class AddKey:
    """Make the keys of one more actor. A learner that runs admits it at once."""

    folder: Path
    actor: str


@dataclass(frozen=True, kw_only=True)
class RevokeKey:
    """Let an actor connect no more. A learner that runs ends its connection within a second."""

    folder: Path
    actor: str


KeysArgs = (
    Annotated[InitKeys, tyro.conf.subcommand("init")]
    | Annotated[AddKey, tyro.conf.subcommand("add")]
    | Annotated[RevokeKey, tyro.conf.subcommand("revoke")]
)


def run_keys(args: InitKeys | AddKey | RevokeKey) -> int:
    """Do what was asked; return 0.

    Raises:
        ConfigError: a name or the folder is not as it must be.
    """
    match args:
        case InitKeys():
            for path in create_keys(args.folder, args.actors):
                _tell(path)
            print(f"start the learner with --keys {args.folder}")
        case AddKey():
            _tell(add_actor(args.folder, args.actor))
        case RevokeKey():
            revoke_actor(args.folder, args.actor)
            print(f"{args.actor} may connect no more")
    return 0


def _tell(path: Path) -> None:
    print(f"copy {path} to the machine of {path.stem}, start its actor with --keys, and delete it here")
