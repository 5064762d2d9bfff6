"""Idle, slow and many connections: what they cost is bounded, and who has shown a token keeps the connection."""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from robot_servers.limited_http import MAX_CONNECTIONS, MAX_HEAD_BYTES, LimitedHttp
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend, serving

TOKEN = "t" * 64
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
REQUEST = f"GET /v1/state HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with serving(RobotService(PointMassBackend()), TOKEN) as url:
        yield "127.0.0.1", int(url.rsplit(":", 1)[1])


def is_dropped(connection: socket.socket) -> bool:
    """Whether the server closes it without a word."""
    connection.settimeout(30.0)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def read_answer(connection: socket.socket) -> bytes:
    connection.settimeout(30.0)
    answer = b""
    while (head := answer.partition(b"\r\n\r\n"))[1] == b"" or len(head[2]) < length_in(head[0]):
        chunk = connection.recv(65536)
        if not chunk:
            break
        answer += chunk
    return answer


def length_in(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


def test_a_head_that_does_not_come_is_answered_408(address):
    with socket.create_connection(address) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 408")
        assert is_dropped(connection)


def test_a_head_that_drips_in_is_answered_408_as_well(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /v1/state HTTP/1.1\r\n")
        connection.settimeout(0.2)
        answer, begin_s = b"", time.monotonic()
        while not answer and time.monotonic() - begin_s < 60.0:
            connection.sendall(b"X: y\r\n")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(address):
    with socket.create_connection(address) as connection:
        connection.sendall(REQUEST)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET")
        assert b"HTTP/1.1 408" in read_answer(connection)


def test_idle_connections_make_room_for_new_ones_and_a_proven_one_stays(address):
    with socket.create_connection(address) as proven:
        proven.sendall(REQUEST)
        assert read_answer(proven).startswith(b"HTTP/1.1 200")
        idle = [socket.create_connection(address) for _ in range(2 * MAX_CONNECTIONS)]
        try:
            url = f"http://{address[0]}:{address[1]}/v1/state"
            assert httpx.get(url, headers=AUTHORIZED, timeout=30.0).status_code == 200
            assert is_dropped(idle[0])
            proven.sendall(REQUEST)
            assert read_answer(proven).startswith(b"HTTP/1.1 200")
        finally:
            for connection in idle:
                connection.close()


def test_where_all_are_proven_a_new_one_is_closed(address, monkeypatch):
    monkeypatch.setattr("robot_servers.limited_http.MAX_CONNECTIONS", 4)
    proven = [socket.create_connection(address) for _ in range(4)]
    try:
        for connection in proven:
            connection.sendall(REQUEST)
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        with socket.create_connection(address) as late:
            assert is_dropped(late)
        proven[0].sendall(REQUEST)
        assert read_answer(proven[0]).startswith(b"HTTP/1.1 200")
    finally:
        for connection in proven:
            connection.close()


def test_whoever_shows_no_token_keeps_no_connection(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"connection: close" in read_answer(connection).lower()


def test_malformed_requests_do_not_fill_the_log(address, capfd, caplog):
    """Each of them was worth a line: anybody could fill the disk."""
    for _ in range(5):
        with socket.create_connection(address) as connection:
            connection.sendall(b"\x80\x03garbage\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 400")
    assert "Invalid HTTP request" not in caplog.text + capfd.readouterr().err


def test_a_body_that_is_cut_off_and_an_upgrade_to_what_is_not_there_are_not_worth_a_line(address, capfd, caplog):
    post = REQUEST.replace(b"GET /v1/state", b"POST /v1/pose")[:-2] + b"Content-Type: application/json\r\n"
    upgrade = REQUEST[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with socket.create_connection(address) as connection:
        connection.sendall(post + b"Content-Length: 9\r\n\r\n{")
    with socket.create_connection(address) as connection:
        connection.sendall(upgrade)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(REQUEST)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
    assert caplog.text + capfd.readouterr().err == ""


ENDLESS = b"t" * 100_000


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(REQUEST[:-2] + b"X: " + ENDLESS + b"\r\n\r\n", id="a header"),
        pytest.param(REQUEST[:-2] + b"X: " + ENDLESS, id="a header without end"),
        pytest.param(REQUEST[:-2] + 40_000 * b"X: y\r\n" + b"\r\n", id="many headers"),
        pytest.param(REQUEST.replace(b"state", b"state/" + ENDLESS), id="a target"),
        pytest.param(50_000 * b"\r\n", id="empty lines"),
        pytest.param(REQUEST[:-2] + b"Host: other\r\n\r\n", id="two hosts"),
        pytest.param(REQUEST[:-2] + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="two lengths"),
        pytest.param(REQUEST[:-2] + b"X: a\r\n b\r\n\r\n", id="a folded header"),
        pytest.param(REQUEST.replace(b"\r\n", b"\n"), id="half line ends"),
        pytest.param(7 * REQUEST, id="a queue"),
    ],
)
def test_a_head_is_refused_that_is_large_or_could_be_read_in_two_ways(address, request_):
    with socket.create_connection(address) as connection, contextlib.suppress(ConnectionError):
        for start in range(0, len(request_), 50_000):
            connection.sendall(request_[start : start + 50_000])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        assert b"HTTP/1.1 400" in answer or b"HTTP/1.1 408" in answer


@pytest.mark.parametrize("more", [b"2;" + ENDLESS, b"2\r\n{}\r\n0\r\nX: " + ENDLESS], ids=["of a chunk", "trailers"])
def test_what_surrounds_a_chunked_body_is_bounded(more):
    closed = []
    transport = mock.Mock(is_closing=lambda: bool(closed), close=lambda: closed.append(True))
    transport.get_extra_info.return_value = None

    async def silent(scope, receive, send) -> None:
        await asyncio.Event().wait()

    async def feed() -> None:
        config = uvicorn.Config(silent, http=LimitedHttp)
        connection = LimitedHttp(config, ServerState(), {})
        transport.get_protocol = lambda: connection
        connection.connection_made(transport)
        connection.data_received(b"POST /v1/pose HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(more), 10_000):
            assert not closed or start > MAX_HEAD_BYTES
            connection.data_received(more[start : start + 10_000])
        connection.connection_lost(None)

    asyncio.run(feed())
    assert closed


async def crowd(path):
    """Send ten requests that read and then a command, all at once; return the order in which they got through."""
    through = []

    async def app(scope, receive, send):
        through.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, http=LimitedHttp, log_level="warning")
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    clients = [socket.socketpair() for _ in range(11)]
    for _, end in clients:
        await loop.connect_accepted_socket(lambda: LimitedHttp(config, state, {}), end)
    for client, _ in clients[:10]:
        client.send(REQUEST)
    clients[10][0].send(REQUEST.replace(b"GET /v1/state", b"POST " + path))
    while len(through) < 11:
        await asyncio.sleep(0)
    for client, _ in clients:
        client.close()
    await asyncio.sleep(0.01)  # the server's ends close
    return through


@pytest.mark.parametrize("path", [b"/v1/pose", b"/v1/stop"])
def test_a_command_does_not_wait_for_all_who_read(path):
    through = asyncio.run(crowd(path))
    assert through.index("POST") <= 1
    assert through.count("GET") == 10


def unread(*chunks, protocol=None):
    """Return a connection for whose turns `chunks` wait."""
    connection = object.__new__(LimitedHttp)
    connection.flow = SimpleNamespace(resume_reading=lambda: None)
    connection.transport = SimpleNamespace(get_protocol=lambda: protocol or connection)
    connection._unread = deque(chunks)
    return connection


def test_what_comes_behind_an_upgrade_is_the_streams():
    heard = []
    connection = unread(b"frame", b"another", protocol=SimpleNamespace(data_received=heard.append))
    for _ in range(3):  # once more than there is
        connection._take_next()
    assert heard == [b"frame", b"another"]


def test_who_has_asked_makes_no_room_before_one_who_has_not():
    dropped = []
    asked, silent = unread(b"GET"), unread()
    for age_s, connection in enumerate((asked, silent)):
        connection.is_proven, connection.since_s, connection._head_timer = False, float(age_s), None
    newest = unread()
    newest.loop = SimpleNamespace(call_later=lambda *_: None)
    newest.is_proven, newest.since_s = False, 2.0
    newest.connections = {asked, silent, newest, *map(str, range(MAX_CONNECTIONS))}
    newest._drop = dropped.append
    with mock.patch.object(HttpToolsProtocol, "connection_made"):
        newest.connection_made(newest.transport)
    assert dropped == [silent]
