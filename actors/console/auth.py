"""Who may use the console: a token in the link, the right Host, and pages of the console itself only."""

import hmac
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serl_core.errors import ConfigError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
TOKEN_BYTES = 32
MAX_BODY_BYTES = 64 * 1024
STOP_PATH = "/stop"
OWN_PAGES_ONLY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", OWN_PAGES_ONLY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def load_or_create_token(path: Path) -> str:
    """Return the token in `path`, made at the first start and readable by its owner alone.

    Raises:
        ConfigError: others can read the file, it is empty, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _load_token(path)
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be made: {error.strerror}; choose another run folder") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(TOKEN_BYTES) + "\n")
    return _load_token(path)


def _load_token(path: Path) -> str:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"token file {path} has mode {mode:04o}, others can read it; run chmod 600")
    token = path.read_text().strip()
    if not token:
        raise ConfigError(f"token file {path} is empty; delete it, the console makes a new one")
    return token


def is_token(given: str, token: str) -> bool:
    """Return whether the two are the same, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())


class Guard:
    """ASGI middleware: refuses a wrong Host, a foreign Origin, a missing token and too large a body.

    The page itself is open: it holds no secret, and has the token only once it runs. The WebSocket sends its
    token in the first message, because a browser cannot give it a header.

    Args:
        token: what the paths of `closed` ask for, as ``Authorization: Bearer``.
        hosts: names of this server, without a port: a tunnel may have another one at its far end.
        closed: the first part of every path that needs the token.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str], closed: Collection[str]) -> None:
        self._app = app
        self._authorization = f"Bearer {token}"
        self._hosts = frozenset(hosts)
        self._closed = frozenset(closed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the app, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, dict(scope["headers"]))
        if refused is not None:
            await _refuse(*refused, scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name not in self._hosts:
            return 403, f"Host {host!r} is not this console; allowed are {', '.join(sorted(self._hosts))}"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
            return 403, "requests from other web pages are refused"
        path = scope["path"]
        if scope["type"] == "http" and f"/{path.split('/')[1]}" in self._closed:
            given = headers.get(b"authorization", b"").decode("latin-1")
            if not is_token(given, self._authorization):
                return 401, "no token or a wrong one; open the console with the link that it printed"
            length = headers.get(b"content-length", b"0")
            if path != STOP_PATH and (not length.isdigit() or int(length) > MAX_BODY_BYTES):
                return 413, f"the body may have {MAX_BODY_BYTES} bytes"
        return None


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return send_with_headers


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
    body = msgspec.json.encode({"status": status, "detail": detail})
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": [*headers, *HEADERS]})
    await send({"type": f"{kind}.body", "body": body})
