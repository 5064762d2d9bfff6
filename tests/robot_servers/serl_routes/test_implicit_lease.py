"""The lease that HIL-SERL's clients do not know of: taken by commanding, lost by silence, never stolen."""

from collections.abc import Iterator

import pytest

from robot_servers.serl_routes.routes import READINGS
from robot_servers.testing import HOME
from tests.robot_servers.serl_routes.serl_rig import Rig, at, epoch, point_mass


@pytest.fixture
def arm() -> Iterator[Rig]:
    with point_mass() as rig:
        yield rig


def test_reading_and_clearing_errors_take_no_lease(arm):
    for path in (*READINGS, "/clearerr"):
        assert arm.post(path).status_code == 200
    assert epoch(arm) == 0


def test_commanding_takes_the_lease_and_nobody_else_gets_it(arm):
    assert arm.post("/pose", at()).status_code == 200
    taken = epoch(arm)
    assert taken > 0
    refused = arm.v1("/v1/lease", {"action": "acquire", "owner": "another"})
    assert (refused.status_code, refused.json()["limit"]) == (409, "hil-serl")
    assert arm.v1("/v1/pose", {"epoch": taken + 1, "pose": HOME}).status_code == 409
    arm.wait(1.5)
    assert arm.post("/pose", at()).status_code == 200
    arm.wait(1.5)
    assert epoch(arm) == taken


def test_commands_that_move_nothing_keep_the_lease_too(arm):
    arm.post("/open_gripper")
    taken = epoch(arm)
    for _ in range(3):
        arm.wait(1.5)
        arm.post("/open_gripper")
    assert epoch(arm) == taken > 0


def test_a_silent_client_loses_the_lease_after_2_s_and_may_come_back(arm):
    arm.post("/pose", at())
    arm.wait(1.9)
    first = epoch(arm)
    assert first > 0
    arm.wait(0.2)
    assert epoch(arm) == 0
    assert arm.post("/pose", at()).status_code == 200
    assert epoch(arm) == first + 1


def test_a_client_that_only_reads_or_clears_errors_loses_it_too(arm):
    arm.post("/pose", at())
    for _ in range(25):
        arm.post("/clearerr")
        arm.state()
        arm.wait(0.1)
    assert epoch(arm) == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/pose", at()),
        ("/jointreset", None),
        ("/reset", None),
        ("/update_param", {"translational_stiffness": 1000}),
        ("/open_gripper", None),
        ("/close_gripper", None),
        ("/close_gripper_slow", None),
        ("/move_gripper", {"gripper_pos": 100}),
        ("/set_load", {"mass": 0.1, "F_x_center_load": [0.0] * 3, "load_inertia": [0.0] * 9}),
        ("/startwrench", None),
    ],
)
def test_while_somebody_else_commands_the_arm_every_command_says_who(arm, path, body):
    holder = arm.v1("/v1/lease", {"action": "acquire", "owner": "the operator"}).json()
    response = arm.post(path, body)
    assert response.status_code == 409
    assert "'the operator'" in response.text
    assert response.headers["content-type"].startswith("text/plain")
    assert arm.backend.calls == []
    assert epoch(arm) == holder["epoch"]
