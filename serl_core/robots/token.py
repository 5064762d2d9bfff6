"""Where the robot server keeps its token, so that clients on the same machine never type it."""

import os
from pathlib import Path

from serl_core.errors import RobotError


def default_token_file() -> Path:
    """Return $SERL_TOKEN_FILE, or robot.token in the user's configuration folder."""
    given = os.environ.get("SERL_TOKEN_FILE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "serl" / "robot.token"


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        RobotError: there is no such file, or it is empty.
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
    return token
