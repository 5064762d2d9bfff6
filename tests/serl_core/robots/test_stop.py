"""A stop finds its way: the stop's own socket, another server behind the same port, nothing there at all."""

import threading
import time
from collections.abc import Iterator

import pytest

from robot_servers.main import serve
from robot_servers.service import RobotService
from robot_servers.testing import PointMassBackend
from serl_core.errors import RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Health, Mode
from serl_core.robots.stop import send_stop
from serl_core.serving import Server, bind, url_of

TOKEN = "t" * 64


class Site:
    """A server with a stop's socket, on a port beside its own."""

    def __init__(self, service: RobotService, url: str, stop_port: int) -> None:
        self.service = service
        self.url = url
        self.stop_port = stop_port


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    servers = []
    startup = Server.startup

    async def remembered(self, sockets=None) -> None:
        await startup(self, sockets)
        servers.append(self)

    monkeypatch.setattr(Server, "startup", remembered)
    service = RobotService(PointMassBackend(is_lockstep=False))
    with bind("127.0.0.1", 0) as listener, bind("127.0.0.1", 0) as stop_listener:
        thread = threading.Thread(
            target=serve, args=(service, TOKEN, listener), kwargs={"stop_listener": stop_listener}
        )
        thread.start()
        while not servers:
            time.sleep(0.01)
        yield Site(service, url_of(listener), stop_listener.getsockname()[1])
        servers[0].should_exit = True
        thread.join()


def never() -> None:
    raise AssertionError("the common way was taken")


def test_a_server_that_is_known_is_stopped_over_the_stops_own_socket(site, tmp_path):
    token_file = tmp_path / "robot.token"
    token_file.write_text(TOKEN)
    robot = HttpRobot(site.url, owner="test", token_file=token_file)
    health = robot.health()
    assert health.stop_port == site.stop_port
    send_stop(site.url, TOKEN, health, never)
    while site.service.state().mode is not Mode.STOPPED:
        time.sleep(0.001)
    robot.close()


def test_where_another_server_answers_the_common_way_is_taken_too(site):
    """Behind a tunnel that forwards the one port only, another arm's stop may listen at the same number."""
    ways = []
    health = Health(backend="", clock="", is_simulated=True, stop_port=site.stop_port, server="another start")
    send_stop(site.url, TOKEN, health, lambda: ways.append("common"))
    assert ways == ["common"]


def test_a_server_that_nobody_asked_before_is_stopped_on_both_ways(site):
    ways = []
    url = f"http://127.0.0.1:{site.stop_port - 1}"  # as where the ports are next to each other
    send_stop(url, TOKEN, None, lambda: ways.append("common"))
    assert ways == ["common"]
    assert site.service.state().mode is Mode.STOPPED


def test_a_common_port_that_hangs_is_no_failure_after_the_stops_own_answer(site, caplog):
    def hang() -> None:
        raise RobotError("it did not answer within 5 s")

    send_stop(f"http://127.0.0.1:{site.stop_port - 1}", TOKEN, None, hang)
    assert "did not answer within 5 s" in caplog.text
    assert site.service.state().mode is Mode.STOPPED


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.0.0.1:65535", "http://127.0.0.1:nothing", "nonsense"]
)
def test_where_nothing_answers_the_common_way_says_why(url):
    def refuse() -> None:
        raise RobotError("no robot server")

    with pytest.raises(RobotError, match="no robot server"):
        send_stop(url, TOKEN, None, refuse)


def test_a_server_without_such_a_socket_is_not_asked_for_it():
    ways = []
    health = Health(backend="", clock="", is_simulated=True)
    send_stop("http://127.0.0.1:1", TOKEN, health, lambda: ways.append("common"))
    assert ways == ["common"]
