"""The HTTP and WebSocket API, v1, on one page.

Handlers run on the event loop and do not wait for the arm, so requests are served one at a time; the few
that must wait for its driver run on a thread. Bodies are decoded strictly by msgspec; a refusal is the
problem reply of FAULTS.md 1.1.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage
from starlette.websockets import WebSocketDisconnect

from robot_servers.auth import LOCAL_HOSTS, MAX_BODY_BYTES, Guard
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.metrics import add_metrics
from robot_servers.rare_calls import RareCalls
from robot_servers.service import RobotService
from robot_servers.tokens import Tokens
from serl_core.errors import ConfigError, RobotError
from serl_core.robots import messages
from serl_core.robots.messages import (
    API_VERSION,
    Job,
    Lease,
    Message,
    PictureFormat,
    Problem,
    RobotState,
    StreamCommand,
)
from serl_core.robots.pictures import pack

BODY_TIMEOUT_S = 2.0
STATE_PATH = "/v1/state"
SCHEMA = "#/components/schemas/{name}"
NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
MEDIA_TYPES = {
    PictureFormat.RAW: "application/octet-stream",
    PictureFormat.JPEG: "image/jpeg",
    PictureFormat.PNG: "image/png",
}
IN_PATHS = {"number": {"type": "integer", "minimum": 0}, "name": {"type": "string"}}  # JSON schemas
FIELD = re.compile(r"at `\$\.([^`]+)`|field `([^`]+)`")  # in msgspec's messages
LAST_MILLISECOND_S = 1e-3
M = TypeVar("M", bound=Message)
Endpoint = Callable[[Request], Awaitable[Response]]


class Route(NamedTuple):
    """A POST route: what it takes, what it returns, and who does it."""

    path: str
    takes: type[Message]
    returns: type[Message]
    call: Callable[[Any], Message]
    is_rare: bool = False  # see `RareCalls`
    waits: bool = False  # for the arm's driver, perhaps for seconds: on a thread, so that a stop gets through


class StopPlace(NamedTuple):
    """Where the stop has a socket of its own."""

    port: int
    server: str  # tells this start of the server from others


def health_of(service: RobotService, stop: StopPlace | None) -> messages.Health:
    """Return the health of a server, with where its stop is."""
    health = service.health()
    return health if stop is None else msgspec.structs.replace(health, stop_port=stop.port, server=stop.server)


def create_app(
    service: RobotService,
    tokens: Tokens | str,
    hosts: Collection[str] = LOCAL_HOSTS,
    tokenless_paths: Collection[str] = (),
    stop: StopPlace | None = None,
) -> FastAPI:
    """Return the API of a started service.

    Args:
        service: the arm.
        tokens: of the roles; one alone may do everything.
        hosts: names of this server, without a port.
        tokenless_paths: added to the app later, they need no token on this machine.
        stop: told to clients, so that they find it while the rest is saturated.
    """
    app = FastAPI(title="serl robot server", version=API_VERSION, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(_state_first, service=service)
    app.add_middleware(  # the last one added comes first
        Guard,
        tokens=Tokens.single(tokens) if isinstance(tokens, str) else tokens,
        hosts=hosts,
        tokenless_paths=tokenless_paths,
        on_event=service.note,
    )
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(RobotError, _answer_robot_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    routes = (
        Route("/v1/lease", messages.LeaseRequest, Lease, service.lease),
        Route("/v1/pose", messages.PoseCommand, RobotState, service.pose),
        Route("/v1/hold", messages.EpochCommand, RobotState, service.hold),
        Route("/v1/wrench", messages.WrenchCommand, RobotState, service.wrench),
        Route("/v1/move", messages.MoveCommand, Job, service.move),
        Route("/v1/joint_reset", messages.JointResetCommand, Job, service.joint_reset, waits=True),
        Route("/v1/impedance", messages.ImpedanceCommand, RobotState, service.impedance),
        Route("/v1/gripper", messages.GripperCommand, RobotState, service.gripper),
        Route("/v1/load", messages.LoadCommand, RobotState, service.load, is_rare=True, waits=True),
        Route("/v1/recover", messages.RecoverCommand, RobotState, service.recover, is_rare=True, waits=True),
        Route("/v1/resume", messages.EpochCommand, RobotState, service.resume),
        Route("/v1/sim/advance", messages.SimAdvanceCommand, RobotState, service.sim_advance),
        Route("/v1/sim/reset", messages.SimResetCommand, RobotState, service.sim_reset),
    )
    rare_calls = RareCalls()
    for route in routes:
        _add(app, "POST", route.path, _endpoint(route, rare_calls), route.returns, route.call.__doc__, route.takes)

    async def health(request: Request) -> Response:
        return _reply(health_of(service, stop))

    async def state(request: Request) -> Response:
        return _reply(service.state())

    async def limits(request: Request) -> Response:
        return _reply(service.limits)

    async def truth(request: Request) -> Response:
        return _reply(service.truth())

    async def job(request: Request) -> Response:
        return _reply(service.job(_number(request.path_params["number"])))

    async def cameras(request: Request) -> Response:
        return _reply(service.cameras())

    async def camera(request: Request) -> Response:
        query = _query(request, messages.CameraQuery)
        # On a thread: a rendering must hold up neither a stop nor the stream.
        return await asyncio.to_thread(_picture, service, request.path_params["name"], query)

    async def latch_stop(request: Request) -> Response:  # whatever the body is: a stop is never refused for its form
        return _reply(service.stop())

    _add(app, "GET", "/v1/health", health, messages.Health, service.health.__doc__)
    _add(app, "GET", STATE_PATH, state, RobotState, service.state.__doc__)
    _add(app, "GET", "/v1/limits", limits, SafetyLimits, "Return what the safety kernel allows.")
    _add(app, "GET", "/v1/sim/truth", truth, messages.SimTruth, service.truth.__doc__)
    _add(app, "GET", "/v1/jobs/{number}", job, Job, service.job.__doc__)
    _add(app, "GET", "/v1/cameras", cameras, messages.CameraNames, service.cameras.__doc__)
    _add(app, "GET", "/v1/cameras/{name}", camera, None, service.camera.__doc__, query=messages.CameraQuery)
    _add(app, "POST", "/v1/stop", latch_stop, RobotState, service.stop.__doc__)

    add_metrics(app, service)

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while (message := await socket.receive())["type"] == "websocket.receive":
                await socket.send({"type": "websocket.send", "text": (await _stream_step(service, message)).decode()})
        except WebSocketDisconnect:
            return  # the watchdog holds the arm, and the lease runs out

    _describe(app, routes)
    return app


async def _stream_step(service: RobotService, message: AsgiMessage) -> bytes:
    """Carry out one message of the stream and return the state at its tick, or the problem."""
    deadline_s = time.monotonic()
    try:
        text = message.get("text")
        if text is None:
            raise Refusal(415, "type", "the stream takes JSON text, not bytes")
        deadline_s += service.stream_step(decode_body(text, StreamCommand))
    except Refusal as refusal:
        return messages.encode(refusal.problem())
    except RobotError as error:
        return messages.encode(Refusal(503, "driver", str(error)).problem())
    await _sleep_until(deadline_s)
    return messages.encode(service.state())


async def _sleep_until(deadline_s: float) -> None:
    """Sleep to a time of the monotonic clock, sharper than the event loop's whole milliseconds."""
    left_s = deadline_s - time.monotonic()
    if left_s > LAST_MILLISECOND_S:
        await asyncio.sleep(left_s - LAST_MILLISECOND_S)
        left_s = deadline_s - time.monotonic()
    if left_s > 0.0:
        time.sleep(left_s)


def _state_first(app: ASGIApp, service: RobotService) -> ASGIApp:
    """Return `app` with `GET /v1/state`, which everybody asks all the time, answered before a route is looked for."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == STATE_PATH and scope["method"] == "GET":
            with suppress(Refusal, RobotError):  # which the app then tells
                body = messages.encode(service.state())
                headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return answer


def _endpoint(route: Route, rare_calls: RareCalls) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        command = decode_body(await read_body(request), route.takes)
        if route.is_rare:
            rare_calls.check()
        message = await asyncio.to_thread(route.call, command) if route.waits else route.call(command)
        if route.is_rare:
            rare_calls.count()
        return _reply(message)

    return endpoint


async def read_body(request: Request) -> bytes:
    """Return the body of a request; refuse one that is large (413), slow (408) or cut off (400)."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refusal(413, "size", f"the body may have {MAX_BODY_BYTES} bytes", limit=MAX_BODY_BYTES)
    except TimeoutError:
        raise Refusal(408, "slow", f"the body took more than {BODY_TIMEOUT_S:g} s") from None
    except ClientDisconnect:  # else it would be worth a traceback in the log
        raise Refusal(400, "cut_off", "the client went away before the body's end") from None
    return bytes(body)


def decode_body(body: bytes | str, kind: type[M]) -> M:
    """Return the message in `body`; refuse what is malformed (400) or of a wrong type or value (422)."""
    try:
        message = messages.decode(body, kind)
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except msgspec.ValidationError as error:
        found = FIELD.search(str(error))
        raise Refusal(422, "value", str(error), field=found and (found[1] or found[2])) from None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "malformed", str(error) or "nested too deeply") from None
    return message


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Object contains field `{twice}` twice")


def _query(request: Request, kind: type[M]) -> M:
    """Return the message in a query string; refuse what is unknown, given twice, or of a wrong value (422)."""
    pairs = request.query_params.multi_items()
    try:
        _refuse_duplicates(pairs)
        fields = {name: int(text) if NUMBER.fullmatch(text) else text for name, text in pairs}
        return msgspec.convert(fields, kind, strict=True)
    except ValueError as error:  # also msgspec's
        found = FIELD.search(str(error))
        raise Refusal(422, "value", str(error), field=found and (found[1] or found[2])) from None


def _picture(service: RobotService, name: str, query: messages.CameraQuery) -> Response:
    """Return a camera's newest picture in the form that the query asks for."""
    image, stamp_s = service.camera(name, query.height, query.width)
    try:
        data = pack(image, query.format)
    except ConfigError as error:
        raise Refusal(503, "no_picture", str(error), field="format", given=query.format.value) from None
    headers = {
        messages.SHAPE_HEADER: ",".join(map(str, image.shape)),
        messages.STAMP_HEADER: repr(stamp_s),
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=MEDIA_TYPES[query.format])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(404, "no_job", f"no job {text[:20]!r}", field="id")
    return int(text)


def _reply(message: Message) -> Response:
    return Response(messages.encode(message), media_type="application/json")


def _problem(problem: Problem) -> Response:
    problem = msgspec.structs.replace(problem, request_id=secrets.token_hex(8))
    return Response(messages.encode(problem), problem.status, media_type="application/problem+json")


async def _answer_refusal(request: Request, error: Exception) -> Response:
    return _problem(cast(Refusal, error).problem())


async def _answer_robot_error(request: Request, error: Exception) -> Response:
    return _problem(Refusal(503, "driver", str(error)).problem())


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    status, detail = cast(HTTPException, error).status_code, cast(HTTPException, error).detail
    return _problem(Refusal(status, "http", f"{request.method} {request.url.path}: {detail}").problem())


def _add(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Endpoint,
    returns: type[Message] | None,
    doc: str | None,
    takes: type[Message] | None = None,
    query: type[Message] | None = None,
) -> None:
    """Add a route, described in OpenAPI by the schemas of its messages. A picture is returned without one."""
    described: dict[str, Any] = {"requestBody": {"required": True, "content": _content(takes)}} if takes else {}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in IN_PATHS.items()
        if f"{{{name}}}" in path
    ]
    if query is not None:
        properties = msgspec.json.schema_components([query], ref_template=SCHEMA)[1][query.__name__]["properties"]
        parameters += [{"name": name, "in": "query", "schema": part} for name, part in properties.items()]
    if parameters:
        described["parameters"] = parameters
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        name=path.removeprefix("/v1/"),
        summary=(doc or "").split("\n")[0],
        response_model=None,
        response_class=Response,
        responses={
            200: {"description": "done", "content": _content(returns) if returns else _pictures()},
            "default": {"description": "refused", "content": _content(Problem, "application/problem+json")},
        },
        openapi_extra=described,
    )


def _content(kind: type[Message], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}


def _pictures() -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()}


def _describe(app: FastAPI, routes: tuple[Route, ...]) -> None:
    """Put the messages' JSON schemas into the app's OpenAPI document."""
    kinds = {route.takes for route in routes} | {route.returns for route in routes}
    kinds |= {
        messages.Health,
        SafetyLimits,
        messages.SimTruth,
        messages.CameraNames,
        messages.CameraQuery,
        Problem,
        StreamCommand,
    }
    _, schemas = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__name__), ref_template=SCHEMA)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
