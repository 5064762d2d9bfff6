"""Requests that are nearly right, made from the robot server's own OpenAPI document: every route, every field.

A value is what the schema asks for, or one of the things that break decoders; a body is that as JSON, or damaged. All
of it follows from a seed. The app is called without a socket, so that ten thousand take seconds.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI

ODD_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e308",
    "5e-324",
    "-0",
    "0.5",
    "9" * 400,
    "1e2",
    "--1",
]
ODD_INTEGERS = [-1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400]
ODD_TEXTS = [
    "",
    "acquire",
    "../../etc/passwd",
    "%00",
    "\x00",
    "\ud800",
    "é" * 40,
    "x" * 5000,
    "{{7*7}}",
    "' OR 1=1--",
    "\r\nX: y",
]
ODD_VALUES = [None, True, [], {}, [[]], "3", [None] * 7, {"arr": [1] * 7}, [True] * 7, [0.0] * 8, "NaN"]
MEDIA_TYPES = ["application/json"] * 12 + ["text/plain", "application/json; charset=utf-16", "", "application/x-pickle"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "post"]


class Raw(str):
    """JSON as it stands, such as NaN or a number that no computer holds."""


class Sent(NamedTuple):
    """A request."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Fuzzer:
    """Makes requests.

    Args:
        document: the OpenAPI document of the app.
        token: a right one.
        epoch: what the commands carry as their lease's, most of the time.
    """

    def __init__(self, document: dict[str, Any], token: str, epoch: int, seed: int) -> None:
        self._schemas = document["components"]["schemas"]
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self._token = token
        self._epoch = epoch
        self._random = random.Random(seed)

    def request(self) -> Sent:
        """Return the next one."""
        method, path, operation = self._random.choice(self._operations)
        path = path.replace(
            "{number}", self._random.choice(["1", "0", "-1", "9" * 30, "1e3", "%2e%2e", "a b", "\u00b2"])
        )
        path = path.replace("{name}", self._random.choice(["none", "..", "wrist/../x", "%00", "x" * 300, ""]))
        if self._sometimes(0.03):
            path = self._random.choice([path + "/", path.upper(), "/" + path, path + "?", "/v1", "/", "/v2/stop", "*"])
        if self._sometimes(0.05):
            method = self._random.choice(METHODS)
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        body = self._body(schema) if schema or self._sometimes(0.05) else b""
        query = self._random.choice(
            [b"", b"", b"height=16", b"height=-1&width=x", b"a=1&a=2", b"%ff=%00", b"format=pickle"]
        )
        return Sent(method, path, query, self._headers(body), body)

    def message(self, name: str) -> bytes:
        """Return a body of the schema of that name."""
        return self._body({"$ref": f"#/components/schemas/{name}"})

    def _headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        random = self._random
        headers = {
            "host": "127.0.0.1",
            "authorization": f"Bearer {self._token}",
            "content-type": random.choice(MEDIA_TYPES),
        }
        headers["content-length"] = (
            str(len(body)) if self._sometimes(0.97) else random.choice(["-1", "x", "9" * 30, "0"])
        )
        if self._sometimes(0.03):
            headers[random.choice(["host", "origin", "authorization", "transfer-encoding", "x-forwarded-for"])] = "evil"
        return [(name.encode(), text.encode("latin-1", "replace")) for name, text in headers.items()]

    def _body(self, schema: dict[str, Any] | None) -> bytes:
        random = self._random
        text = as_json(self._value(schema or {}, depth=0))
        body = text.encode("utf-8", "surrogatepass")
        damage = random.random()
        if damage < 0.04:
            body = body[: random.randrange(len(body) + 1)]
        elif damage < 0.08:
            at = random.randrange(len(body) + 1)
            body = body[:at] + bytes(random.randrange(256) for _ in range(random.randrange(1, 4))) + body[at + 1 :]
        elif damage < 0.10:
            depth = random.choice([10, 500, 5000, 15000])
            body = b"[" * depth + b"]" * random.choice([0, depth])
        elif damage < 0.12 and body.startswith(b"{") and len(body) > 2:
            body = body[:-1] + b"," + body[1:]  # every key twice
        elif damage < 0.13:
            body = random.choice([b"", b"\xff\xfe{\x00}\x00", b"\x80\x03N.", b"null", body + body, b" " * 70_000])
        return body

    def _value(self, schema: dict[str, Any], depth: int) -> Any:
        random = self._random
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rsplit("/", 1)[1]], depth)
        if self._sometimes(0.04):
            return random.choice(ODD_VALUES)
        if "anyOf" in schema:
            return self._value(random.choice(schema["anyOf"]), depth)
        if "enum" in schema:
            return random.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                parts = schema.get("prefixItems") or [schema.get("items", {})] * random.choice([0, 1, 7, 50])
                items = [self._value(part, depth + 1) for part in parts]
                return items[:-1] if self._sometimes(0.03) else items
            case "number":
                return Raw(random.choice(ODD_NUMBERS)) if self._sometimes(0.06) else random.uniform(-1.0, 1.0)
            case "integer":
                return random.choice(ODD_INTEGERS) if self._sometimes(0.2) else random.randrange(1, 10)
            case "string":
                return random.choice(ODD_TEXTS)
            case "boolean":
                return self._sometimes(0.5)
        return None if schema.get("type") == "null" else random.choice(ODD_VALUES)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        fields = {
            name: self._epoch if name == "epoch" and self._sometimes(0.8) else self._value(part, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if self._sometimes(0.97)
        }
        return fields | ({"unknown": 1} if self._sometimes(0.03) else {})

    def _sometimes(self, share: float) -> bool:
        return self._random.random() < share


def as_json(value: Any) -> str:
    """Return the JSON of a value in which some text stands for itself."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{as_json(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return json.dumps(value)


async def ask(app: FastAPI, sent: Sent) -> tuple[int, bytes]:
    """Return the status and the body of the app's answer."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": sent.method, "path": sent.path, "raw_path": sent.path.encode("utf-8", "replace"),
        "query_string": sent.query, "headers": sent.headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 5000),
    }  # fmt: skip
    chunks = iter([{"type": "http.request", "body": sent.body, "more_body": False}, {"type": "http.disconnect"}])
    answer: list[Any] = []

    async def receive() -> Any:
        return next(chunks)

    async def send(message: Any) -> None:
        answer.append(message)

    await app(scope, receive, send)
    return answer[0]["status"], b"".join(part.get("body", b"") for part in answer[1:])


def statuses_of(app: FastAPI, fuzzer: Fuzzer, requests: int) -> Iterator[tuple[Sent, int, bytes]]:
    """Send so many, and yield each with its answer."""
    with asyncio.Runner() as runner:
        for _ in range(requests):
            sent = fuzzer.request()
            yield sent, *runner.run(ask(app, sent))


async def speak(app: FastAPI, token: str, texts: list[str | bytes]) -> list[str]:
    """Say all that over one stream, and return what was answered."""
    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "root_path": "",
        "path": "/v1/stream", "raw_path": b"/v1/stream", "query_string": b"", "headers": headers, "subprotocols": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 5000),
    }  # fmt: skip
    said: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    said += [{"type": "websocket.receive", "text" if isinstance(text, str) else "bytes": text} for text in texts]
    said += [{"type": "websocket.disconnect", "code": 1000}]
    coming, answers = iter(said), []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            answers.append(message["text"])

    await app(scope, receive, send)
    return answers
