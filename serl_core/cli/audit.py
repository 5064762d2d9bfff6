"""`serl audit verify`: whether anybody has changed a robot server's audit log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from serl_core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class AuditArgs:
    """Follow the chain of an audit log, and of the older files beside it."""

    action: Annotated[Literal["verify"], tyro.conf.Positional]
    file: Annotated[Path, tyro.conf.Positional]
    """The log that `serl robot-server --audit-log` writes."""


def run_audit(args: AuditArgs) -> int:
    """Say what was found; return 0 for a log that is whole.

    Raises:
        DataError: a file cannot be read, or the chain is broken: says where.
    """
    from robot_servers.audit_chain import verify

    verdict = verify(args.file)
    if verdict.broken is not None:
        raise DataError(f"{verdict.broken}; the {verdict.lines} lines before it are sound")
    print(f"{verdict.lines} lines, each follows the one before it; the newest has the hash {verdict.newest}")
    return 0
