"""HIL-SERL's routes: bodies, replies, who may command, and what the safety kernel says, on a point mass."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from robot_servers.app import create_app
from robot_servers.arms import Backend, ClockKind, GripperKind
from robot_servers.main import RobotServerArgs, _serl_arm, run_robot_server
from robot_servers.serl_routes import SERL_PATHS, add_serl_routes
from robot_servers.serl_routes.arm import SerlArm
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend
from serl_core import geometry
from serl_core.errors import ConfigError
from tests.robot_servers.serl_routes.serl_rig import AUTHORIZED, TOKEN, Rig, epoch, point_mass

SERVER = """
import tyro
from robot_servers.main import RobotServerArgs, run_robot_server
run_robot_server(tyro.cli(RobotServerArgs))
"""
API_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "robot-api.md"


@pytest.fixture
def arm() -> Iterator[Rig]:
    with point_mass() as rig:
        yield rig


@pytest.fixture(scope="module")
def untouched_arm() -> Iterator[Rig]:
    """One arm for all the tests whose every request is refused."""
    with point_mass() as rig:
        yield rig
        assert rig.backend.calls == []
        assert rig.state()["pose"] == list(HOME)
        assert epoch(rig) == 0


# ---- readings


def test_the_state_has_the_original_names(arm):
    state = arm.state()
    assert list(state) == ["pose", "vel", "force", "torque", "q", "dq", "jacobian", "gripper_pos"]
    assert state["pose"] == list(HOME)
    assert state["gripper_pos"] == 1.0


@pytest.mark.parametrize(
    ("path", "key", "name"),
    [
        ("/getpos", "pose", "pose"),
        ("/getvel", "vel", "vel"),
        ("/getforce", "force", "force"),
        ("/gettorque", "torque", "torque"),
        ("/getq", "q", "q"),
        ("/getdq", "dq", "dq"),
        ("/getjacobian", "jacobian", "jacobian"),
        ("/get_gripper", "gripper", "gripper_pos"),
    ],
)
def test_each_part_of_the_state_has_a_route(arm, path, key, name):
    arm.backend.wrench = (1.0, 2.0, 3.0, 0.1, 0.2, 0.3)
    arm.backend.q = np.arange(7) / 10.0
    arm.backend.jacobian = np.arange(42.0).reshape(6, 7)
    assert arm.post(path).json() == {key: arm.state()[name]}


def test_euler_angles_are_extrinsic_xyz(arm):
    arm.backend._quaternion = geometry.euler_to_quaternion(np.array([3.0, 0.2, -0.4]))
    np.testing.assert_allclose(arm.post("/getpos_euler").json()["pose"], [*HOME[:3], 3.0, 0.2, -0.4], atol=1e-9)


def test_force_and_torque_are_what_the_tool_presses_with_in_its_own_frame(arm):
    """The point mass looks straight down: turned by half a turn about x."""
    arm.backend.wrench = (1.0, 2.0, 3.0, 0.1, 0.2, 0.3)  # of the world on the robot, base frame
    np.testing.assert_allclose(arm.state()["force"], [-1.0, 2.0, 3.0], atol=1e-12)
    np.testing.assert_allclose(arm.state()["torque"], [-0.1, 0.2, 0.3], atol=1e-12)


# ---- who may ask


@pytest.mark.parametrize("path", SERL_PATHS)
def test_no_web_page_and_no_foreign_name_may_ask(untouched_arm, path):
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        assert untouched_arm.post(path, headers=headers).status_code == 403
    wrong = untouched_arm.post(path, headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code in (401, 429)  # of one address, after five a minute, it is told to wait
    assert untouched_arm.client.get(path).status_code == 405
    assert untouched_arm.backend.calls == []


def test_the_other_routes_still_need_the_token(untouched_arm):
    assert untouched_arm.client.get("/v1/state").status_code == 401
    assert untouched_arm.client.post("/v1/stop").status_code == 401


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.8.9.10", {}, 200),
        ("::1", {}, 200),
        ("192.168.1.5", {}, 401),
        ("fe80::1", {}, 401),
        ("::ffff:192.168.1.5", {}, 401),
        ("", {}, 401),
        (None, {}, 401),
        ("192.168.1.5", AUTHORIZED, 200),
        ("192.168.1.5", {"X-Forwarded-For": "127.0.0.1"}, 401),
    ],
)
def test_from_elsewhere_the_token_is_needed(address, headers, status):
    service = RobotService(PointMassBackend())
    service.start()
    app = create_app(service, TOKEN, tokenless_paths=SERL_PATHS)
    add_serl_routes(app, SerlArm(service))

    async def ask() -> int:
        statuses: list[int] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        lines = [(name.lower().encode(), value.encode()) for name, value in (headers | {"Host": "127.0.0.1"}).items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/getstate", "raw_path": b"/getstate", "query_string": b"", "root_path": "", "headers": lines,
            "client": None if address is None else (address, 40000), "server": ("127.0.0.1", 5000),
        }  # fmt: skip
        await app(scope, receive, send)
        return statuses[0]

    assert asyncio.run(ask()) == status
    service.close()


def test_a_proxy_on_this_machine_does_not_make_others_local(untouched_arm):
    headers = {"X-Forwarded-For": "192.168.1.5"}
    assert untouched_arm.post("/getstate", headers=headers).status_code == 401
    assert untouched_arm.post("/getstate", headers=headers | AUTHORIZED).status_code == 200


def test_without_the_option_the_routes_are_not_there():
    paths = {getattr(route, "path", "") for route in create_app(RobotService(PointMassBackend()), TOKEN).routes}
    assert paths.isdisjoint(SERL_PATHS)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"serl_clear_errors": True}, "give --serl-routes too"),
        ({"serl_routes": True, "clock": ClockKind.LOCKSTEP}, "--clock real_time"),
    ],
)
def test_options_that_do_not_go_together_are_said(tmp_path, options, remedy):
    with pytest.raises(ConfigError, match=remedy):
        run_robot_server(RobotServerArgs(port=0, token_file=tmp_path / "token", **options))


def test_the_program_answers_them_in_real_time(tmp_path):
    ready = tmp_path / "url"
    options = ["--serl-routes", "--port", "0", "--ready-file", str(ready), "--token-file", str(tmp_path / "token")]
    process = subprocess.Popen([sys.executable, "-c", SERVER, *options])
    try:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        url = ready.read_text().strip()
        pose = httpx.post(url + "/getstate").json()["pose"]
        assert httpx.post(url + "/pose", json={"arr": [*pose[:2], pose[2] + 0.02, *pose[3:]]}).status_code == 200
        while httpx.post(url + "/getpos").json()["pose"][2] < pose[2] + 0.01:
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_the_meaning_of_255_follows_the_gripper():
    service = RobotService(PointMassBackend())
    hand = RobotServerArgs(backend=Backend.FRANKY)
    robotiq = RobotServerArgs(backend=Backend.FRANKY, gripper=GripperKind.ROBOTIQ)
    assert not _serl_arm(service, hand)._is_255_closed
    assert _serl_arm(service, robotiq)._is_255_closed


def test_every_route_is_documented():
    page = API_PAGE.read_text()
    assert [path for path in SERL_PATHS if f"`{path}`" not in page] == []
