"""The stop's own socket: any token stops, nothing else does, and idle or endless clients keep nobody out."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from robot_servers.auth import LOCAL_HOSTS
from robot_servers.stop_socket import MAX_VISITORS, StopSocket
from robot_servers.tokens import Tokens
from serl_core.robots.messages import Problem, Stopped, decode

TOKENS = Tokens(control="c" * 64, observe="o" * 64, admin="a" * 64)
HEAD = "POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1:5001\r\nAuthorization: Bearer {token}\r\n"


class Rig:
    """A stop's socket, and how often it has stopped."""

    def __init__(self, port: int, causes: list[str]) -> None:
        self.port = port
        self.causes = causes

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10.0)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    def stop(self, token: str = TOKENS.control, more: str = "", body: bytes = b"") -> tuple[int, bytes]:
        return self.ask((HEAD.format(token=token) + more + "\r\n").encode() + body)


@contextmanager
def stop_socket(latch: Callable[[str], None] | None = None) -> Iterator[Rig]:
    causes: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = StopSocket(listener, latch or causes.append, TOKENS, LOCAL_HOSTS, "this start")
        served.start()
        try:
            yield Rig(listener.getsockname()[1], causes)
        finally:
            served.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with stop_socket() as rig:
        yield rig


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_of_any_role_stops(rig, token):
    status, body = rig.stop(token)
    assert (status, decode(body, Stopped)) == (200, Stopped(cause="stop", server="this start"))
    assert rig.causes == ["stop"]


@pytest.mark.parametrize("body", [b"", b"not json", b"x" * 300_000])
def test_a_stop_is_never_refused_for_its_form(rig, body):
    status, _ = rig.stop(more=f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n", body=body)
    assert status == 200
    assert rig.causes == ["stop"]


def test_a_stop_that_comes_byte_by_byte_stops(rig):
    with closing(rig.connect()) as connection:
        for byte in HEAD.format(token=TOKENS.observe).encode() + b"\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert rig.causes == ["stop"]


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (HEAD.format(token="wrong"), 401),
        ("POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n", 401),
        (HEAD.format(token=TOKENS.control) + "Origin: http://evil.example\r\n", 403),
        (HEAD.format(token=TOKENS.control).replace("127.0.0.1", "evil.example"), 403),
        (HEAD.format(token=TOKENS.control).replace("Host: 127.0.0.1:5001\r\n", ""), 403),
        (HEAD.format(token=TOKENS.control) + "Host: 127.0.0.1\r\n", 400),
        (HEAD.format(token=TOKENS.control).replace("POST", "GET"), 405),
        (HEAD.format(token=TOKENS.control).replace("/v1/stop", "/v1/resume"), 404),
        ("\r\n", 400),
        ("\x80\x03ctorch\r\n", 400),
        (HEAD.format(token=TOKENS.control) + "no colon\r\n", 400),
        ("A" * 9000, 431),
    ],
)
def test_whatever_else_comes_is_refused_and_stops_nothing(rig, request_text, status):
    found, body = rig.ask(request_text.encode("latin-1") + b"\r\n")
    assert found == status
    assert decode(body, Problem).status == status
    assert rig.causes == []


def test_wrong_tokens_keep_nobody_from_the_stop(rig):
    assert {rig.stop("wrong")[0] for _ in range(30)} == {401}
    assert rig.stop()[0] == 200


def test_idle_clients_keep_nobody_out_and_are_sent_away(rig):
    idle = [rig.connect() for _ in range(3 * MAX_VISITORS)]
    try:
        assert rig.stop()[0] == 200
        assert idle[0].recv(1) == b""  # it had to make room
        assert idle[-1].recv(1) == b""  # it has outstayed
    finally:
        for connection in idle:
            connection.close()


def test_who_makes_room_for_newer_ones_is_heard_first():
    is_busy, may_go_on, causes = threading.Event(), threading.Event(), []

    def latch(cause: str) -> None:
        causes.append(cause)
        is_busy.set()
        assert may_go_on.wait(30.0)

    with stop_socket(latch) as rig, ExitStack() as stack:
        first = stack.enter_context(closing(rig.connect()))
        for _ in range(MAX_VISITORS - 2):
            stack.enter_context(closing(rig.connect()))
        asking = threading.Thread(target=rig.stop)
        asking.start()
        assert is_busy.wait(30.0)
        for _ in range(8):  # taken in first, and there is no room
            stack.enter_context(closing(rig.connect()))
        first.sendall((HEAD.format(token=TOKENS.control) + "\r\n").encode())
        may_go_on.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        asking.join()
    assert causes == ["stop", "stop"]


def test_a_client_that_never_ends_its_body_holds_up_nobody(rig):
    has_ended = threading.Event()

    def send_for_ever() -> None:
        with closing(rig.connect()) as connection:
            connection.sendall(HEAD.format(token=TOKENS.observe).encode() + b"Content-Length: 99999999999\r\n\r\n")
            try:
                while not has_ended.is_set():
                    connection.sendall(b"x" * 65536)
            except OSError:  # sent away
                has_ended.set()

    endless = threading.Thread(target=send_for_ever)
    endless.start()
    try:
        assert rig.stop()[0] == 200
        assert has_ended.wait(30.0)
    finally:
        has_ended.set()
        endless.join()


def test_a_failure_in_one_request_ends_no_other(caplog):
    """The thread that stops the arm may not die, whatever happens to it."""

    def fail(cause: str) -> None:
        raise RuntimeError("broken")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = StopSocket(listener, fail, TOKENS, LOCAL_HOSTS, "this start")
        served.start()
        rig = Rig(listener.getsockname()[1], [])
        with closing(rig.connect()) as connection:
            connection.sendall(HEAD.format(token=TOKENS.control).encode() + b"\r\n")
            assert connection.recv(1) == b""
        assert rig.stop("wrong")[0] == 401
        served.close()
    assert "broken" in caplog.text


def test_it_ends_while_clients_are_connected():
    with stop_socket() as rig, closing(rig.connect()):
        pass
    assert "stop-socket" not in [thread.name for thread in threading.enumerate()]
