"""The HTTP of the stop's socket: one request line, a few headers, and an answer."""

from collections.abc import Collection

from robot_servers.limits import Refusal
from robot_servers.tokens import Tokens
from serl_core.robots.messages import Problem, Stopped, encode
from serl_core.robots.token import Role

STOP_PATH = b"/v1/stop"
MAX_HEAD_BYTES = 8192
PHRASES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}


def refusal_of(head: bytes | None, tokens: Tokens, hosts: Collection[str]) -> tuple[Role | None, Refusal | None]:
    """Return whose request `head` is, or why it is refused; None is a head that was too long."""
    try:
        return _check(head, tokens, hosts), None
    except Refusal as refusal:
        return None, refusal


def _check(head: bytes | None, tokens: Tokens, hosts: Collection[str]) -> Role:
    if head is None:
        raise Refusal(431, "size", f"the request's head may have {MAX_HEAD_BYTES} bytes", limit=MAX_HEAD_BYTES)
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        raise Refusal(400, "malformed", "not a request of HTTP/1.1")
    headers = _headers(lines)
    host = headers.get(b"host", b"").decode("latin-1")
    if (host if host.endswith("]") else host.rsplit(":", 1)[0]) not in hosts:
        raise Refusal(403, "host", f"Host {host[:64]!r} is not this server", field="Host", limit=sorted(hosts))
    if b"origin" in headers:
        raise Refusal(403, "origin", "requests from web pages are refused", field="Origin")
    role = tokens.role_of(headers.get(b"authorization", b""))
    if role is None:
        detail = "no token or a wrong one; send `Authorization: Bearer` with any of the server's token files"
        raise Refusal(401, "token", detail, field="Authorization")
    if words[1] != STOP_PATH:
        raise Refusal(404, "http", "this socket has only POST /v1/stop")
    if words[0] != b"POST":
        raise Refusal(405, "http", "a stop is a POST: a GET changes nothing")
    return role


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name.strip() != name or name in headers:
            raise Refusal(400, "malformed", "a header has no name, or is there twice")
        headers[name] = value.strip()
    return headers


def answer_to(message: Stopped | Problem) -> bytes:
    """Return the whole answer."""
    status = message.status if isinstance(message, Problem) else 200
    kind = "application/problem+json" if isinstance(message, Problem) else "application/json"
    body = encode(message)
    head = (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
