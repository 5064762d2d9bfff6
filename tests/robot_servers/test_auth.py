"""Nobody without the token, no web page, no foreign name: on every route of the app, enumerated."""

import asyncio
import stat
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

from robot_servers.app import create_app
from robot_servers.auth import LOCAL_HOSTS, OPEN_PATHS, STOP_PATH, load_or_create_token
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving
from serl_core.errors import ConfigError
from serl_core.robots.stream import Exchange, ExchangeRefused

TOKEN = "0123456789abcdef" * 4
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
def test_every_route_needs_the_token(client, method, path, headers):
    response = client.request(method, path, headers=headers)
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

    async def get() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{name}:5000") as client:
            return (await client.get("/v1/health")).status_code

    assert asyncio.run(get()) == status


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


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "config" / "robot.token"
    token = load_or_create_token(path)
    assert len(bytes.fromhex(token)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_token(path) == token
    assert load_or_create_token(tmp_path / "another") != token


def test_a_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "robot.token"
    load_or_create_token(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        load_or_create_token(path)


def test_a_token_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"robot\.token"):
        load_or_create_token(tmp_path / "file" / "robot.token")
