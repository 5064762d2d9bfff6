"""Who may talk to the server: a bearer token, the right Host, and no web page (SAFETY.md 2.2)."""

import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robot_servers.limits import Refusal
from serl_core.errors import ConfigError
from serl_core.robots.messages import encode
from serl_core.robots.token import read_token

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPEN_PATHS = ("/v1/health", "/openapi.json")
STOP_PATH = "/v1/stop"
TOKEN_BITS = 256
MAX_BODY_BYTES = 64 * 1024


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


class Guard:
    """ASGI middleware: refuses whatever has a wrong Host, an Origin, no token, a wrong type or too large a body.

    It answers before the body is read. `hosts` are names without a port. `tokenless_paths` need no token from a
    client on this machine; one that is sent must be right.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: Collection[str] = LOCAL_HOSTS,
        tokenless_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._authorization = f"Bearer {token}".encode()
        self._hosts = frozenset(hosts)
        self._tokenless_paths = frozenset(tokenless_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the app, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope, dict(scope["headers"]))
        except Refusal as refusal:
            await _refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self._hosts:
            raise Refusal(403, "host", f"Host {host!r} is not this server", field="Host", limit=sorted(self._hosts))
        if b"origin" in headers:
            raise Refusal(403, "origin", "requests from web pages are refused", field="Origin")
        if scope["path"] in OPEN_PATHS:
            return
        given = headers.get(b"authorization", b"")
        is_exempt = scope["path"] in self._tokenless_paths and not given and _is_from_here(scope)
        if not is_exempt and not hmac.compare_digest(given, self._authorization):
            detail = "no token or a wrong one; send `Authorization: Bearer` with the server's token file"
            raise Refusal(401, "token", detail, field="Authorization")
        if scope["path"] == STOP_PATH:
            return  # never refused for its form; its body is not read
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise Refusal(413, "size", f"the body may have {MAX_BODY_BYTES} bytes", limit=MAX_BODY_BYTES)
        has_body = length != b"0" or b"transfer-encoding" in headers
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if has_body and kind != b"application/json":
            raise Refusal(415, "type", "the body must be application/json", field="Content-Type")


def _is_from_here(scope: Scope) -> bool:
    """Return whether the client is on this machine."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
    body = encode(refusal.problem())
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    start: Message = {"type": f"{kind}.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": f"{kind}.body", "body": body})
