"""Stop, resume and recover: from the page to the robot, whatever else hangs."""

import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from robot_servers.testing import PointMassBackend
from serl_core.operator import messages
from serl_core.robots.messages import LeaseRequest, Mode
from tests.actors.console.rig import FakeActor, console, robot, wait_until


@contextmanager
def hanging_except_stop(url):
    """Yield the address of a go-between that lets a stop through and leaves every other request without an answer."""
    host, port = url.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    ends = [listener]

    def copy(source, sink):
        with suppress(OSError):
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        sink.close()

    def serve(client):
        request = client.recv(65536)
        if request.startswith(b"POST /v1/stop"):
            server = socket.create_connection((host, int(port)))
            ends.append(server)
            server.sendall(request)
            threading.Thread(target=copy, args=(server, client), daemon=True).start()
            copy(client, server)

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            ends.append(client)
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for end in ends:
            end.close()


def test_a_stop_gets_through_while_state_cameras_and_actor_hang(tmp_path):
    with (
        robot() as (url, service),
        hanging_except_stop(url) as slow,
        console(tmp_path, robot=slow) as served,
        FakeActor(tmp_path / "run") as actor,
        served.page() as page,
    ):
        page.hear("step")
        actor.is_frozen.set()
        page.hear("state", lambda state: state["missing"]["robot"] and state["missing"]["actor"] is None)
        for _ in range(20):
            page.steer()
        begin_s = time.monotonic()
        assert served.client.post("/stop").status_code == 200
        took_s = time.monotonic() - begin_s
        assert service.state().mode is Mode.STOPPED
        assert took_s < 1.0  # the state's own time limit, which it must not wait for


def test_a_stop_over_the_websocket_latches_too_and_everybody_hears_of_it(tmp_path):
    with robot() as (url, service), console(tmp_path, robot=url) as served, served.page() as one, served.page() as two:
        two.hear("hello")
        one.say("stop")
        wait_until(lambda: service.state().mode is Mode.STOPPED)
        for page in (one, two):
            assert "stopped" in page.hear("notice")["text"]
            assert page.hear("state", lambda state: state["control"] == "stopped")["robot"]["fault"] == "stop"


def test_a_stop_is_never_refused_for_its_form(tmp_path):
    with robot() as (url, service), console(tmp_path, robot=url) as served:
        for body in (b"", b"not json", b"x" * 100_000):
            assert served.client.post("/stop", content=body, headers={"Content-Type": "text/plain"}).status_code == 200
        assert service.state().mode is Mode.STOPPED


def test_a_stop_that_does_not_get_through_says_so(tmp_path):
    with console(tmp_path) as served, served.page() as page:
        answer = served.client.post("/stop")
        assert answer.status_code == 502
        assert "no robot server" in answer.json()["detail"]
        assert "STOP DID NOT GET THROUGH" in page.hear("notice")["text"]


def test_without_an_actor_the_console_resumes_the_robot_and_gives_the_lease_back(tmp_path):
    with robot() as (url, service), console(tmp_path, robot=url) as served, served.page() as page:
        served.client.post("/stop")
        page.say("resume_robot")
        assert "resume, the arm holds" in page.hear("notice", lambda notice: notice["level"] == "info")["text"]
        assert service.state().mode is Mode.HOLD
        assert service.state().lease_epoch == 0


def test_without_an_actor_the_console_recovers_the_very_fault_that_was_shown(tmp_path):
    backend = PointMassBackend(is_lockstep=False)
    with robot(backend=backend) as (url, service), console(tmp_path, robot=url) as served, served.page() as page:
        backend.fail("reflex")
        page.hear("state", lambda state: state["control"] == "fault")
        page.say("recover", cause="another fault")
        assert page.hear("notice")["level"] == "error"
        assert service.state().mode is Mode.FAULT
        page.say("recover", cause=service.state().fault)
        page.hear("notice", lambda notice: notice["level"] == "info")
        assert service.state().mode is Mode.HOLD
        assert service.state().lease_epoch == 0


def test_whoever_holds_the_lease_keeps_it_when_the_console_would_resume(tmp_path):
    with robot() as (url, service), console(tmp_path, robot=url) as served, served.page() as page:
        service.lease(LeaseRequest(action="acquire", owner="someone"), timeout_s=1000.0)
        served.client.post("/stop")
        page.say("resume_robot")
        assert "someone" in page.hear("notice", lambda notice: notice["level"] == "error")["text"]
        assert service.state().mode is Mode.STOPPED


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({"kind": "resume_robot"}, messages.ResumeRobot(operator="anna")),
        ({"kind": "recover", "cause": "reflex"}, messages.Recover(operator="anna", cause="reflex")),
    ],
)
def test_with_an_actor_it_is_the_one_that_frees_the_robot(tmp_path, said, heard):
    with (
        robot() as (url, service),
        console(tmp_path, robot=url) as served,
        FakeActor(tmp_path / "run") as actor,
        served.page() as page,
    ):
        page.hear("step")
        served.client.post("/stop")
        page.say(**said)
        assert actor.wait_for(type(heard)) == heard
        assert service.state().mode is Mode.STOPPED
