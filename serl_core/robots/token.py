"""Where the robot server keeps its tokens, so that clients on the same machine never type one."""

import os
import re
from enum import Enum
from pathlib import Path

from serl_core.errors import RobotError

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # what may follow "Bearer" (RFC 6750, section 2.1)


class Role(Enum):
    """What the bearer of a token may do; each may also do what those before it may."""

    OBSERVE = "observe"  # read, and stop
    CONTROL = "control"  # command the arm
    ADMIN = "admin"  # tell the arm its payload

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do what `other` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


def default_token_file() -> Path:
    """Return $SERL_TOKEN_FILE, or robot.token in the user's configuration folder: that of the role control."""
    given = os.environ.get("SERL_TOKEN_FILE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "serl" / "robot.token"


def role_file(control_file: Path, role: Role) -> Path:
    """Return where the token of a role is, beside that of control: robot.token, robot.observe.token."""
    if role is Role.CONTROL:
        return control_file
    return control_file.with_name(f"{control_file.stem}.{role.value}{control_file.suffix}")


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        RobotError: there is no such file, it is empty, or holds something else.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RobotError(
            f"token file {path} cannot be read ({error}); the robot server makes it at its first start, "
            "copy it from there or give --token-file"
        ) from None
    if not token:
        raise RobotError(f"token file {path} is empty; delete it and restart the robot server")
    if not TOKEN.fullmatch(token):
        raise RobotError(
            f"token file {path} holds no token: letters, digits and any of ._~+/-= are allowed; delete it and restart "
            "the robot server, or give another with --token-file"
        )
    return token
