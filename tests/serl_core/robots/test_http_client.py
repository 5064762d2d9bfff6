"""The client against a served point mass, and against servers that are not there or not ours."""

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from robot_servers.limits import SafetyLimits
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import HOME, PointMassBackend, serving
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import ImpedanceParams, Mode
from serl_core.robots.problems import is_late

LIMITS = SafetyLimits(lease_timeout_s=1.0)  # renewed twice in it


class Site:
    """A served arm and the token file its clients read."""

    def __init__(self, url: str, backend: PointMassBackend, service: RobotService, token_file: Path) -> None:
        self.url = url
        self.backend = backend
        self.service = service
        self.token_file = token_file

    def robot(self, owner: str = "test") -> HttpRobot:
        return HttpRobot(self.url, owner=owner, token_file=self.token_file)


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    token_file = tmp_path / "robot.token"
    token_file.write_text("secret\n")
    backend = PointMassBackend()
    service = RobotService(backend, LIMITS)
    with serving(service, "secret") as url:
        yield Site(url, backend, service, token_file)


@pytest.fixture
def robot(site) -> Iterator[HttpRobot]:
    robot = site.robot()
    robot.connect()
    yield robot
    robot.close()


def test_steps_moves_and_resets_do_what_they_say(robot, site):
    for _ in range(5):
        state = robot.step((0.52, *HOME[1:]), 0.1, gripper=0.4)
    assert state.mode is Mode.TRACKING
    assert state.tcp_pose[0] == pytest.approx(0.52, abs=1e-3)
    assert robot.move((0.6, 0.1, 0.4, *HOME[3:])).tcp_pose[:3] == pytest.approx((0.6, 0.1, 0.4), abs=1e-3)
    assert robot.joint_reset().mode is Mode.HOLD
    assert robot.sim_reset(seed=1).tcp_pose == HOME
    robot.set_impedance(ImpedanceParams())
    robot.set_gripper(1.0)
    assert [call[0] for call in site.backend.calls if call[0] != "cancel_joint_reset"] == [
        "set_gripper", "start_joint_reset", "reset", "set_impedance", "set_gripper",
    ]  # fmt: skip


def test_a_wrench_reaches_the_arm_and_one_too_large_does_not(robot, site):
    robot.set_wrench((1.0, 2.0, 3.0, 0.1, 0.2, 0.3))
    robot.step(HOME, 0.01)
    assert site.backend.references[-1][8:] == (1.0, 2.0, 3.0, 0.1, 0.2, 0.3)
    with pytest.raises(RobotError, match="wrench") as refused:
        robot.set_wrench((0.0, 0.0, 20.1, 0.0, 0.0, 0.0))
    assert (refused.value.status, refused.value.field) == (422, "wrench[2]")
    robot.step(HOME, 0.01)
    assert site.backend.references[-1][10] == 3.0


def test_a_refusal_is_an_error_with_the_servers_words(robot):
    with pytest.raises(RobotError, match=r"x = 2\.0000 m is outside the workspace, 0\.1 to 1 m") as refused:
        robot.step((2.0, *HOME[1:]), 0.1)
    assert (refused.value.status, refused.value.field) == (422, "pose[0]")
    with pytest.raises(RobotError, match="z = 3") as refused:
        robot.move((0.5, 0.0, 3.0, *HOME[3:]))
    assert refused.value.field == "pose[2]"


def test_a_stopped_arm_is_a_fault_until_resumed(robot):
    robot.stop()
    for call in (lambda: robot.step(HOME, 0.1), lambda: robot.move(HOME), lambda: robot.set_gripper(0.0)):
        with pytest.raises(RobotFault, match="latched by 'stop'"):
            call()
    robot.resume()
    assert robot.step(HOME, 0.1).mode is Mode.TRACKING


def test_a_reflex_is_a_fault_until_recovered(robot, site):
    site.backend.fail("reflex")
    robot.step(HOME, 0.1)
    with pytest.raises(RobotFault, match="reflex"):
        robot.step(HOME, 0.1)
    robot.recover()
    robot.step(HOME, 0.1)
    robot.recover()


def test_recovering_a_stopped_arm_does_nothing(robot):
    """It was refused with 409, although without a fault nothing should happen."""
    robot.stop()
    robot.recover()
    assert robot.state().mode is Mode.STOPPED


def test_a_blocked_move_raises(robot, site):
    site.backend.follows = False
    with pytest.raises(RobotError, match="the move failed: the arm is 100"):
        robot.move((0.6, *HOME[1:]))


def test_the_lease_is_renewed_in_the_background(robot, site):
    robot.step(HOME, 0.1)
    time.sleep(3 * LIMITS.lease_timeout_s)
    assert site.service.state().lease_epoch != 0
    robot.step(HOME, 0.1)


def test_a_second_client_is_told_who_has_the_arm_and_the_first_goes_on(robot, site, monkeypatch):
    monkeypatch.setattr("serl_core.robots.http_client.LEASE_PATIENCE_S", 0.2)
    with pytest.raises(RobotError, match="commanded by 'test'") as refused:
        site.robot("other").connect()
    assert refused.value.status == 409
    robot.step(HOME, 0.1)


def test_a_closed_client_frees_the_arm_at_once(robot, site, monkeypatch):
    monkeypatch.setattr("serl_core.robots.http_client.LEASE_PATIENCE_S", 0.0)
    robot.close()
    robot.close()
    second = site.robot("other")
    second.connect()
    second.step(HOME, 0.1)
    second.close()


def test_a_successor_waits_for_the_lease_of_a_client_that_died(site):
    first = site.robot("first")
    first.connect()
    first._is_closing.set()  # as if its process were gone: nobody renews
    second = site.robot("second")
    second.connect()
    assert second.step(HOME, 0.1).mode is Mode.TRACKING
    with pytest.raises(RobotError, match="lease is lost"):
        first.step(HOME, 0.1)
    second.close()
    first.close()


def test_before_connect_nothing_is_sent(site):
    with pytest.raises(RobotError, match="connect"):
        site.robot().step(HOME, 0.1)


def test_no_server_is_one_sentence_that_says_what_to_start(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RobotError, match=f"no robot server at {url}.*serl robot-server") as refused:
        HttpRobot(url, owner="test", token_file=tmp_path / "token").connect()
    assert "\n" not in str(refused.value)
    assert refused.value.status == 0


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
def test_a_wrong_url_is_one_sentence(url, tmp_path):
    with pytest.raises(RobotError, match=r"no robot server at|is no address of a robot server"):
        HttpRobot(url, owner="test", token_file=tmp_path / "token").connect()


def test_a_wrong_token_names_the_file(site):
    site.token_file.write_text("wrong")
    with pytest.raises(RobotError, match=f"refuses the token in {site.token_file}") as refused:
        site.robot().connect()
    assert refused.value.status == 401


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_missing_or_broken_token_file_is_named(site, content):
    site.token_file.unlink()
    if content is not None:
        site.token_file.write_bytes(content)
    with pytest.raises(RobotError, match=str(site.token_file)):
        site.robot().connect()


def test_another_web_server_is_recognised(tmp_path):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(RobotError, match=f"{url} is no robot server"):
            HttpRobot(url, owner="test", token_file=tmp_path / "token").connect()
        thread.join()


def test_a_server_that_does_not_answer_times_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RobotError, match=r"did not answer within 0\.2 s"):
            HttpRobot(url, owner="test", token_file=tmp_path / "token", timeout_s=0.2).connect()


def test_a_broken_stream_is_an_error_and_the_next_step_opens_another(robot):
    assert robot._stream is not None
    robot._stream._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(RobotError, match="stream to the robot server"):
        robot.step(HOME, 0.1)
    assert robot.step(HOME, 0.1).mode is Mode.TRACKING


CLIENT = """
import sys
from pathlib import Path
from serl_core.errors import RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.problems import is_late
robot = HttpRobot(sys.argv[1], owner="mortal", token_file=Path(sys.argv[2]))
robot.connect()
while True:
    x, *rest = robot.state().tcp_pose
    try:
        robot.step((min(x + 0.03, 0.95), *rest), 0.1)
    except RobotError as refusal:
        if not is_late(refusal) and refusal.status != 503:  # of a machine that is busy
            raise
    else:
        print(x, flush=True)
"""


class HeldUp:
    """A stream whose next message is held up on its way."""

    def __init__(self, stream, held_s):
        self.sent, self._stream, self._held_s = [], stream, held_s

    def ask(self, text, timeout_s):
        self.sent.append(text)
        time.sleep(self._held_s)
        self._held_s = 0.0
        return self._stream.ask(text, timeout_s)

    def close(self):
        self._stream.close()


def test_a_target_that_comes_late_is_refused_and_never_sent_anew(tmp_path):
    """It was sent once more with a new stamp: the arm went to where it was to go before its client was suspended."""
    (tmp_path / "robot.token").write_text("secret")
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=False))
    with (
        serving(service, "secret") as url,
        closing(HttpRobot(url, owner="test", token_file=tmp_path / "robot.token")) as robot,
    ):
        robot.connect()
        x, *rest = robot.state().tcp_pose
        robot.step((x, *rest), 0.05)
        robot._stream = held_up = HeldUp(robot._stream, 0.8)
        with pytest.raises(RobotError, match="look at the state and send another") as refused:
            robot.step((x + 0.05, *rest), 0.05)
        assert is_late(refused.value)
        assert len(held_up.sent) == 1
        assert robot.state().mode is Mode.HOLD
        assert robot.state().reference_pose[0] < x + 0.01
        assert robot.step(robot.state().tcp_pose, 0.05).mode is Mode.TRACKING


def test_a_client_killed_in_motion_leaves_the_arm_at_rest(tmp_path):
    """The arm must stand 0.45 s of its own clock after the kill, in HOLD, and the lease must run out."""
    token_file = tmp_path / "robot.token"
    token_file.write_text("secret")
    backend = PointMassBackend(is_lockstep=False)
    service = RobotService(backend)
    with serving(service, "secret") as url:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, url, str(token_file)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert client.stdout is not None
            while float(client.stdout.readline()) < 0.55:
                pass
            assert service.state().mode is Mode.TRACKING
        finally:
            client.kill()
            killed_s = backend.now_s()
            client.wait()
            client.stdout.close()
        motion = service._kernel._motion
        while backend.now_s() < max(killed_s, motion.command_s) + 0.6:  # one command may have been on its way
            time.sleep(0.02)
        assert service.state().mode is Mode.HOLD
        references = np.array(backend.references)
        moved_s = references[1:, 0][(np.diff(references[:, 1:], axis=0) != 0.0).any(axis=1)]
        assert moved_s.max() <= max(killed_s, motion.command_s) + 0.45
        assert moved_s.max() > killed_s
        while service.state().lease_epoch != 0:
            time.sleep(0.05)
        assert backend.now_s() <= killed_s + 5.0
