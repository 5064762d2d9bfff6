"""Who may use the console, and from where."""

import logging

import pytest
from websockets.exceptions import InvalidStatus

from actors.console.app import CLOSED as FIRST_PARTS
from actors.console.app import create_app
from actors.console.auth import load_or_create_token
from actors.console.console import Console
from serl_core.errors import ConfigError
from tests.actors.console.rig import TOKEN, console, settings


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with console(tmp_path_factory.mktemp("console")) as served:
        yield served


def test_a_new_token_is_256_bits_and_its_owners_alone(tmp_path):
    path = tmp_path / "run" / "console.token"
    token = load_or_create_token(path)
    assert len(bytes.fromhex(token)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_token(path) == token


def test_a_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "console.token"
    load_or_create_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="0640, others can read it; run chmod 600"):
        load_or_create_token(path)


def test_an_empty_token_file_is_refused(tmp_path):
    path = tmp_path / "console.token"
    path.touch(0o600)
    with pytest.raises(ConfigError, match="is empty"):
        load_or_create_token(path)


CLOSED = [
    ("POST", "/stop"),
    ("GET", "/history"),
    ("GET", "/runs"),
    ("GET", "/episodes"),
    ("GET", "/episodes/5e55-1/thumbnail.jpg"),
    ("GET", "/evaluation"),
    ("GET", "/clips/trial-001.mp4"),
    ("GET", "/report"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize("given", [None, "Bearer wrong", TOKEN, f"Basic {TOKEN}"])
def test_without_the_token_nothing_but_the_page_is_given(served, method, path, given):
    headers = {} if given is None else {"Authorization": given}
    served.client.headers.pop("Authorization", None)
    assert served.client.request(method, path, headers=headers).status_code == 401


def test_every_route_but_the_page_is_closed(tmp_path):
    """A new route is open until someone thinks of it: so the list of routes is compared."""
    paths = {route.path for route in create_app(Console(settings(tmp_path)), TOKEN).routes}
    assert {f"/{path.split('/')[1]}" for path in paths} - {"/", "/page", "/ws"} == set(FIRST_PARTS)


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/history"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1"])
def test_another_host_is_refused_also_for_the_page(served, path, host):
    assert served.get(path, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_another_page_is_refused_also_with_the_token(served, origin):
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": origin}
    assert served.get("/history", headers=headers).status_code == 403
    with pytest.raises(InvalidStatus, match="403"), served.page(origin=origin):
        pass


def test_the_consoles_own_page_is_let_in_whatever_the_port_of_a_tunnel_is(served):
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert served.get("/runs", headers=headers).status_code == 200


def test_the_page_may_load_nothing_from_elsewhere(served):
    headers = served.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self';" in headers["content-security-policy"]
    assert "http:" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


def test_static_files_do_not_lead_out_of_their_folder(served):
    for path in ("/page/../main.py", "/page/%2e%2e/main.py", "/page/..%2fmain.py", "/main.py"):
        assert served.get(path).status_code == 404


@pytest.mark.parametrize("token", ["wrong", "", TOKEN + "x"])
def test_a_wrong_token_ends_the_websocket_with_4401(served, token):
    with served.page(token=token) as page:
        assert page.closing_code() == 4401


def test_a_websocket_that_does_not_begin_with_hello_is_ended_with_4401(served):
    with served.page(token=None) as page:
        page.say("stop")
        assert page.closing_code() == 4401


def test_the_token_reaches_no_log(served, caplog):
    caplog.set_level(logging.DEBUG)
    with served.page() as page:
        page.hear("hello")
    with served.page(token="wrong"):
        served.get("/runs", headers={"Authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in "".join(record.getMessage() for record in caplog.records if "websockets" not in record.name)
