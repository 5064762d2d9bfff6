"""The server's tokens, one per role: made at the first start, each readable by its owner alone."""

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from serl_core.errors import ConfigError
from serl_core.robots.token import Role, read_token, role_file

TOKEN_BITS = 256


class Tokens(NamedTuple):
    """Who is who. The roles without a token are nobody's."""

    control: str
    observe: str | None = None
    admin: str | None = None

    @classmethod
    def single(cls, token: str) -> "Tokens":
        """Return the tokens of a server whose only token may do everything."""
        return cls(control=token, admin=token)

    def role_of(self, authorization: bytes) -> Role | None:
        """Return the role of an ``Authorization`` header, in a time that does not depend on where it is wrong."""
        found: Role | None = None
        for role, token in ((Role.OBSERVE, self.observe), (Role.CONTROL, self.control), (Role.ADMIN, self.admin)):
            if token is not None and hmac.compare_digest(authorization, f"Bearer {token}".encode()):
                found = role
        return found


def load_or_create_tokens(control_file: Path) -> Tokens:
    """Return the tokens of all roles: control's in `control_file`, the others' beside it.

    Raises:
        ConfigError: others can read a file, it cannot be made, or two roles have the same token.
    """
    tokens = Tokens(**{role.value: load_or_create_token(role_file(control_file, role)) for role in Role})
    if len(set(tokens)) != len(tokens):
        raise ConfigError(f"two of the token files beside {control_file} are the same; delete the copy")
    return tokens


def load_or_create_token(path: Path) -> str:
    """Return the token in `path`, made at the first start and readable by its owner alone.

    Raises:
        ConfigError: others can read the file, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if not path.is_file():
            raise ConfigError(f"token file {path} cannot be made: {error.strerror}; give --token-file") from None
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(f"token file {path} has mode {mode:04o}, others can read it; run chmod 600") from None
        return read_token(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(TOKEN_BITS // 8) + "\n")
    return read_token(path)
