"""Who may talk to the server, and about what: a token with a role, the right Host, no web page (SAFETY.md 2.2)."""

import ipaddress
import time
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robot_servers.audit import REQUESTER, Requester
from robot_servers.limits import Refusal
from robot_servers.tokens import Tokens
from robot_servers.wrong_tokens import WrongTokens
from serl_core.robots.messages import encode
from serl_core.robots.token import Role

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPEN_PATHS = ("/v1/health", "/openapi.json")
STOP_PATH = "/v1/stop"
ADMIN_PATHS = ("/v1/load",)  # with a wrong payload an arm moves by itself, and its collision thresholds mean nothing
MAX_SESSIONS = 16  # streams
MAX_BODY_BYTES = 64 * 1024
MAX_LENGTH_DIGITS = 20  # of a declared length
READING_METHODS = ("GET", "HEAD", "OPTIONS")

OnEvent = Callable[[str, str], None]


class Guard:
    """ASGI middleware: refuses whatever has a wrong Host, an Origin, no right token, a wrong type or too large a body.

    It answers before the body is read, and closes the connection then.

    Args:
        app: what is guarded.
        tokens: of the roles.
        hosts: names of this server, without a port.
        tokenless_paths: need no token from a client on this machine; one that is sent must be right.
        on_event: told of tokens that are refused; must not block.
        clock: of the limit on wrong tokens, in s.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        hosts: Collection[str] = LOCAL_HOSTS,
        tokenless_paths: Collection[str] = (),
        on_event: OnEvent = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = frozenset(hosts)
        self._tokenless_paths = frozenset(tokenless_paths)
        self._on_event = on_event
        self._wrong_tokens = WrongTokens(clock)
        self._sessions = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the app, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            role = self._check(scope, dict(scope["headers"]))
        except Refusal as refusal:
            await _refuse(refusal, scope, receive, send)
            return
        REQUESTER.set(Requester(_client(scope), "none" if role is None else role.value))
        if scope["type"] == "http":
            await self._app(scope, receive, _closing(send) if scope["path"] in OPEN_PATHS else send)
            return
        self._sessions += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._sessions -= 1

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> Role | None:
        """Return the role of a request that may pass; None where it needs none."""
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self._hosts:
            raise Refusal(403, "host", f"Host {host!r} is not this server", field="Host", limit=sorted(self._hosts))
        if b"origin" in headers:
            raise Refusal(403, "origin", "requests from web pages are refused", field="Origin")
        path = scope["path"]
        if path in OPEN_PATHS:
            return None
        given = headers.get(b"authorization", b"")
        role = self._role(scope, given)
        if path == STOP_PATH:
            return role  # whoever may read may stop; never refused for its form, and its body is not read
        if role is not None:
            self._check_role(scope, role)
        self._check_form(headers)
        if scope["type"] == "websocket" and self._sessions >= MAX_SESSIONS:
            raise Refusal(429, "sessions", f"{MAX_SESSIONS} streams are open already", limit=MAX_SESSIONS)
        return role

    def _role(self, scope: Scope, given: bytes) -> Role | None:
        role = self._tokens.role_of(given)
        if role is not None:
            return role
        if scope["path"] in self._tokenless_paths and not given and _is_from_here(scope):
            return None
        detail = "no token or a wrong one; send `Authorization: Bearer` with the server's token file"
        if given:  # who sends none guesses nothing
            client = _client(scope)
            answer = self._wrong_tokens.count(client)
            if answer.is_worth_a_line:
                self._on_event("wrong_token", f"{client} {scope.get('method', 'WS')} {scope['path'][:64]}")
            if answer.wait_s and scope["path"] != STOP_PATH:
                detail = f"too many wrong tokens, the next may come in {answer.wait_s:g} s; {detail}"
                raise Refusal(429, "token", detail, field="Authorization", limit=answer.wait_s)
        raise Refusal(401, "token", detail, field="Authorization")

    def _check_role(self, scope: Scope, role: Role) -> None:
        path, is_reading = scope["path"], scope["type"] == "http" and scope["method"] in READING_METHODS
        needed = Role.OBSERVE if is_reading else Role.ADMIN if path in ADMIN_PATHS else Role.CONTROL
        if not role.includes(needed):
            detail = (
                f"the token is that of the role {role.value!r}; this needs that of {needed.value!r}, in another file"
            )
            raise Refusal(403, "role", detail, field="Authorization", given=role.value, limit=needed.value)

    def _check_form(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS or int(length) > MAX_BODY_BYTES:
            raise Refusal(413, "size", f"the body may have {MAX_BODY_BYTES} bytes", limit=MAX_BODY_BYTES)
        has_body = length != b"0" or b"transfer-encoding" in headers
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if has_body and kind != b"application/json":
            raise Refusal(415, "type", "the body must be application/json", field="Content-Type")


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return "unknown" if client is None else str(client[0])


def _is_from_here(scope: Scope) -> bool:
    """Return whether the client is on this machine."""
    try:
        return ipaddress.ip_address(_client(scope)).is_loopback
    except ValueError:
        return False


def _closing(send: Send) -> Send:
    """Return a `send` that closes the connection: who has shown no token keeps none open."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return send_and_close


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
    body = encode(refusal.problem())
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 429 and isinstance(refusal.limit, float):
        headers.append((b"retry-after", f"{refusal.limit:.0f}".encode()))
    if kind == "http.response":
        headers.append((b"connection", b"close"))
    start: Message = {"type": f"{kind}.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": f"{kind}.body", "body": body})
