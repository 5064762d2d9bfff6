"""Nobody without the token, no web page, no foreign name: on every route of the app, enumerated."""

import asyncio
import itertools
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

from robot_servers.app import create_app
from robot_servers.auth import ADMIN_PATHS, LOCAL_HOSTS, MAX_SESSIONS, OPEN_PATHS, STOP_PATH
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from robot_servers.tokens import Tokens
from serl_core.robots.messages import LeaseRequest, encode
from serl_core.robots.stream import Exchange, ExchangeRefused

TOKEN = "0123456789abcdef" * 4
TOKENS = Tokens(control="c" * 64, observe="o" * 64, admin="a" * 64)
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

APP = create_app(RobotService(PointMassBackend()), TOKEN)
ROUTES = [
    (method, route.path.replace("{number}", "1"))
    for route in APP.routes
    if isinstance(route, APIRoute)
    for method in route.methods
]
POSTS = [path for method, path in ROUTES if method == "POST" and path != STOP_PATH]
GUARDED = [route for route in ROUTES if route[1] not in OPEN_PATHS]
ADDRESSES = (f"10.0.{i // 250}.{i % 250}" for i in itertools.count())


def asked(app: FastAPI, method: str, path: str, address: str, **options: object) -> httpx.Response:
    """The answer to a client at an address."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(RobotService(PointMassBackend()), TOKEN) as url:
        yield url


@pytest.fixture(scope="module")
def client(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


def test_the_enumeration_finds_the_routes():
    assert len(POSTS) >= 12
    assert {"/v1/state", "/v1/stop", "/v1/sim/reset"} <= {path for _, path in GUARDED}
    assert [route.path for route in APP.routes if isinstance(route, WebSocketRoute)] == ["/v1/stream"]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Bearer {TOKEN[:-1]}"}],
)
def test_every_route_needs_the_token(method, path, headers):
    response = asked(APP, method, path, next(ADDRESSES), headers=headers)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert TOKEN not in response.text


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_the_stream_needs_the_token(url, headers):
    with pytest.raises(ExchangeRefused) as refused:
        Exchange(url.replace("http", "ws") + "/v1/stream", headers, 5.0)
    assert refused.value.status == 401
    assert b"token" in refused.value.body


def test_health_needs_none(client):
    assert client.get("/v1/health").json()["backend"] == "point_mass"


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "evil:5000"}]
)
def test_web_pages_and_foreign_names_are_refused(client, method, path, headers):
    assert client.request(method, path, headers=AUTHORIZED | headers).status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_web_pages_and_foreign_names_get_no_stream(url, headers):
    with pytest.raises(ExchangeRefused) as refused:
        Exchange(url.replace("http", "ws") + "/v1/stream", AUTHORIZED | headers, 5.0)
    assert refused.value.status in (400, 403)  # two Host headers are no HTTP at all


@pytest.mark.parametrize("name", ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "[::1]"])
def test_this_machine_goes_by_its_names(client, name):
    assert client.get("/v1/state", headers=AUTHORIZED | {"Host": name}).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("robot.lab", 200), ("robot.lab.evil.example", 403)])
def test_a_name_can_be_allowed(name, status):
    app = create_app(RobotService(PointMassBackend()), TOKEN, (*LOCAL_HOSTS, "robot.lab"))
    assert asked(app, "GET", "/v1/health", "127.0.0.1", headers={"Host": f"{name}:5000"}).status_code == status


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_must_be_json(client, path, kind):
    response = client.post(path, headers=AUTHORIZED | {"Content-Type": kind}, content=b"{}")
    assert response.status_code == 415


@pytest.mark.parametrize("path", POSTS)
def test_a_large_body_is_refused(client, path):
    headers = AUTHORIZED | {"Content-Type": "application/json"}
    response = client.post(path, headers=headers, content=b" " * (64 * 1024 + 1))
    assert response.status_code == 413


def test_a_large_body_without_a_length_is_refused(client):
    headers = AUTHORIZED | {"Content-Type": "application/json"}
    chunks = (b" " * 1024 for _ in range(80))
    assert client.post("/v1/pose", headers=headers, content=chunks).status_code == 413


# ---- roles


@pytest.fixture
def roles() -> Iterator[FastAPI]:
    service = RobotService(PointMassBackend())
    service.start()
    yield create_app(service, TOKENS)
    service.close()


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_an_observer_reads_and_stops_and_nothing_else(roles, method, path):
    response = asked(roles, method, path, "127.0.0.1", headers={"Authorization": f"Bearer {TOKENS.observe}"})
    if method == "GET" or path == STOP_PATH:
        assert response.status_code not in (401, 403)
    else:
        assert response.status_code == 403
        assert response.json()["title"] == "role"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_controller_may_do_all_but_what_changes_the_arms_own_model(roles, method, path):
    response = asked(roles, method, path, "127.0.0.1", headers={"Authorization": f"Bearer {TOKENS.control}"})
    assert (response.status_code == 403) == (path in ADMIN_PATHS)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_an_administrator_may_do_all(roles, method, path):
    response = asked(roles, method, path, "127.0.0.1", headers={"Authorization": f"Bearer {TOKENS.admin}"})
    assert response.status_code not in (401, 403)


def test_an_observer_gets_no_stream():
    service = RobotService(PointMassBackend())
    with serving(service, TOKENS) as url, pytest.raises(ExchangeRefused) as refused:
        Exchange(url.replace("http", "ws") + "/v1/stream", {"Authorization": f"Bearer {TOKENS.observe}"}, 10.0)
    assert refused.value.status == 403


# ---- limits


def test_after_five_wrong_tokens_a_client_is_told_to_wait_and_the_right_token_is_not(roles):
    """Whoever guesses at an address must not take the arm away from the program there that commands it."""
    wrong, right = {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKENS.control}"}
    statuses = [asked(roles, "GET", "/v1/state", "10.9.0.1", headers=wrong).status_code for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    waiting = asked(roles, "GET", "/v1/state", "10.9.0.1", headers=wrong)
    assert float(waiting.headers["retry-after"]) > 0
    assert asked(roles, "GET", "/v1/state", "10.9.0.1", headers=right).status_code == 200
    assert asked(roles, "GET", "/v1/state", "10.9.0.2", headers=wrong).status_code == 401
    assert asked(roles, "POST", STOP_PATH, "10.9.0.1", headers=wrong).status_code == 401
    assert asked(roles, "POST", STOP_PATH, "10.9.0.1", headers=right).json()["mode"] == "stopped"


def test_wrong_tokens_stand_in_the_audit_log_and_cannot_flood_it(tmp_path):
    service = RobotService(PointMassBackend(), audit_log=tmp_path / "audit.jsonl")
    service.start()
    app = create_app(service, TOKENS)
    for _ in range(50):
        asked(app, "GET", "/v1/state", "10.9.0.1", headers={"Authorization": "Bearer wrong"})
    service.close()
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert all('"event":"wrong_token","detail":"10.9.0.1 GET /v1/state"' in line for line in lines)


def test_what_changes_the_arm_says_in_the_audit_log_on_whose_behalf(tmp_path):
    service = RobotService(PointMassBackend(), audit_log=tmp_path / "audit.jsonl")
    service.start()
    body = encode(LeaseRequest(action="acquire", owner="test"))
    headers = {"Authorization": f"Bearer {TOKENS.control}", "Content-Type": "application/json"}
    asked(create_app(service, TOKENS), "POST", "/v1/lease", "10.9.0.1", headers=headers, content=body)
    service.close()
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert '"lease_epoch":1,"event":"lease","detail":"test epoch 1","client":"10.9.0.1","role":"control"' in line


def test_streams_beyond_the_limit_are_refused_and_their_place_is_free_again(url):
    stream, streams = url.replace("http", "ws") + "/v1/stream", []
    try:
        for _ in range(MAX_SESSIONS):
            streams.append(Exchange(stream, AUTHORIZED, 10.0))
        with pytest.raises(ExchangeRefused) as refused:
            Exchange(stream, AUTHORIZED, 10.0)
        assert refused.value.status == 429
    finally:
        for exchange in streams:
            exchange.close()
    while True:  # the server hears of it a moment later
        try:
            Exchange(stream, AUTHORIZED, 10.0).close()
            break
        except ExchangeRefused:
            continue


def test_a_refused_connection_is_closed(client):
    assert client.get("/v1/state").headers["connection"] == "close"
    assert "connection" not in client.get("/v1/state", headers=AUTHORIZED).headers


def test_the_state_has_no_method_but_get(client):
    assert client.get("/v1/state", headers=AUTHORIZED).status_code == 200
    assert client.head("/v1/state", headers=AUTHORIZED).status_code == 405
