"""A robot's HTTP connections: each is one thread's at a time, and none is closed under a running request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from examples.ram_insertion import CONFIG
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.http_clients import HttpClients
from serl_core.robots.messages import encode
from serl_core.testing.fakes import FakeRobot

ANSWER_S = 0.3


@pytest.fixture
def slow_server():
    """A robot server that thinks before it answers: its URL, and an event that a request has come."""
    arm = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    arm.connect()
    body, has_come = encode(arm.state()), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            has_come.set()
            time.sleep(ANSWER_S)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", has_come
        server.shutdown()
        thread.join()


def test_a_robot_that_is_closed_lets_a_request_of_another_thread_end(slow_server, tmp_path):
    """A camera's thread was told "[Errno 9] Bad file descriptor" when the robot was closed, or taken up anew."""
    url, has_come = slow_server
    (tmp_path / "token").write_text("t" * 64)
    (tmp_path / "token").chmod(0o600)
    robot = HttpRobot(url, owner="test", token_file=tmp_path / "token")
    with ThreadPoolExecutor(1) as camera:
        state = camera.submit(robot.state)
        assert has_come.wait(20.0)
        robot.close()
        assert state.result(20.0).mode is not None


@pytest.fixture
def made():
    return []


@pytest.fixture
def clients(made):
    def make():
        made.append(httpx.Client(trust_env=False))
        return made[-1]

    clients = HttpClients(make)
    yield clients
    clients.close()
    assert all(client.is_closed for client in made)


def test_no_two_threads_have_the_same_client_and_one_that_is_free_is_used_again(clients, made):
    with clients.taken() as one, clients.taken() as two:
        assert one is not two
    for _ in range(3):
        with clients.taken() as again:
            assert again in (one, two)
    assert len(made) == 2


def test_a_client_in_use_is_closed_by_whoever_uses_it_at_the_end(clients):
    with clients.taken() as one:
        clients.close()
        assert not one.is_closed
    assert one.is_closed


def test_after_the_closing_a_request_gets_a_client_of_its_own(clients):
    with clients.taken() as one:
        pass
    clients.close()
    with clients.taken() as two:
        assert two is not one
        assert not two.is_closed


def test_a_client_whose_request_failed_is_closed_and_not_used_again(clients):
    with pytest.raises(httpx.ConnectError), clients.taken() as one:
        raise httpx.ConnectError("gone")
    assert one.is_closed
