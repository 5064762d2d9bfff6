"""Idle, slow and many connections: what they cost is bounded, and who has shown a token keeps the connection."""

import socket
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest

from robot_servers.limited_http import MAX_CONNECTIONS, LimitedHttp
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


class CountsStops(RobotService):
    stops = 0

    def stop(self):
        self.stops += 1
        return super().stop()


def test_a_request_is_read_although_its_client_has_gone():
    service = CountsStops(PointMassBackend())
    with serving(service, TOKEN) as url:
        address = "127.0.0.1", int(url.rsplit(":", 1)[1])
        for _ in range(40):  # a crowd: their turns come when they have gone
            with socket.create_connection(address) as connection:
                connection.sendall(REQUEST.replace(b"GET /v1/state", b"POST /v1/stop"))
        end_s = time.monotonic() + 30.0
        while service.stops < 40 and time.monotonic() < end_s:
            time.sleep(0.01)
    assert service.stops == 40


def test_what_comes_behind_an_upgrade_is_the_streams():
    heard = []
    stream = SimpleNamespace(data_received=heard.append)
    connection = object.__new__(LimitedHttp)
    connection.flow = SimpleNamespace(resume_reading=lambda: None)
    connection.transport = SimpleNamespace(get_protocol=lambda: stream)
    connection._unread = deque([b"frame", b"another"])
    connection._read()
    connection._read()
    connection._read()  # nothing is left
    assert heard == [b"frame", b"another"]
