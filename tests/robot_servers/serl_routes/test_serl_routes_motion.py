"""What HIL-SERL's routes make an arm do, for a client that posts /clearerr, /pose and /getstate at 10 Hz.

On the simulated arm, where only the test moves time on, and on an FR3 of franky-sim, through libfranka in real time.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from robot_servers.franky import FrankyBackend
from robot_servers.limits import SafetyLimits
from robot_servers.sim.model import REST_Q
from tests.robot_servers.franky.simulated import SimulatedArms
from tests.robot_servers.serl_routes.serl_rig import PERIOD_S, Rig, serl_serving, simulated_arm

RAM_PRECISION = {
    "translational_stiffness": 3000,
    "translational_damping": 89,
    "rotational_stiffness": 300,
    "rotational_damping": 9,
    "translational_Ki": 0.1,
    "rotational_Ki": 0.1,
    **{f"translational_clip_{end}": 0.01 for end in ("x", "y", "z", "neg_x", "neg_y", "neg_z")},
    **{f"rotational_clip_{end}": 0.05 for end in ("x", "y", "z", "neg_x", "neg_y", "neg_z")},
}


@contextmanager
def franky_arm(simulator: SimulatedArms, **options) -> Iterator[Rig]:
    """An FR3 of franky-sim, in real time, where it begins."""
    simulator.ask("home")
    backend = FrankyBackend(simulator.address, SafetyLimits(), enforce_realtime=False)
    with serl_serving(backend, **options) as rig:
        yield rig


@pytest.fixture
def simulated() -> Iterator[Rig]:
    with simulated_arm() as rig:
        yield rig


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatedArms]:
    arms = SimulatedArms()
    yield arms
    arms.kill()


@pytest.fixture(params=["simulated", "franky"])
def arm(request) -> Iterator[Rig]:
    """Either arm; another backend is one name more."""
    if request.param == "simulated":
        yield request.getfixturevalue("simulated")
        return
    with franky_arm(request.getfixturevalue("simulator")) as rig:
        yield rig


def speed_m_s(rig: Rig) -> float:
    return float(np.linalg.norm(rig.state()["vel"][:3]))


def shifted(pose, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> list[float]:
    return [*np.add(pose[:3], (x, y, z)), *pose[3:]]


def test_a_client_without_lease_or_token_moves_the_arm(arm):
    start = arm.state()["pose"]
    for i in range(1, 11):
        assert arm.step(shifted(start, y=0.005 * i)).status_code == 200
    arm.step_until_there(shifted(start, y=0.05))


def test_a_reset_of_20_cm_in_a_second_in_precision_mode_arrives(simulated):
    """That client sends its last pose and waits: what the arm is behind by then, it must make up in 0.3 s."""
    start = simulated.state()["pose"]
    goal = shifted(start, x=-0.09, y=0.09, z=0.155)
    assert simulated.post("/update_param", RAM_PRECISION).status_code == 200
    simulated.wait(0.5)
    assert set(simulated.interpolate(goal, 1.0)) == {200}
    simulated.wait(0.5)
    assert simulated.short_m(goal) < 0.008


def test_the_arm_is_at_rest_within_450_ms_of_the_last_pose(simulated):
    start = simulated.state()["pose"]
    for i in range(1, 6):
        simulated.step(shifted(start, y=0.02 * i))
    assert speed_m_s(simulated) > 0.05
    simulated.wait(0.45 - PERIOD_S)
    stopped = simulated.state()["pose"]
    assert simulated.v1("/v1/state").json()["mode"] == "hold"
    assert speed_m_s(simulated) < 0.03  # it springs back by a few mm to where it was told to hold
    simulated.wait(1.0)
    assert simulated.short_m(stopped) < 0.003


def test_slow_posts_move_and_hold_in_turn(simulated):
    start = simulated.state()["pose"]
    for i in range(1, 4):
        simulated.post("/pose", {"arr": shifted(start, y=0.005 * i)})
        simulated.wait(0.25)
        assert simulated.v1("/v1/state").json()["mode"] == "tracking"
        simulated.wait(0.25)
        assert simulated.v1("/v1/state").json()["mode"] == "hold"
    assert simulated.short_m(shifted(start, y=0.015)) < 0.006


def test_the_joint_reset_blocks_until_the_arm_is_at_its_rest_posture(arm):
    start = arm.state()["pose"]
    for i in range(1, 4):
        arm.step(shifted(start, y=0.02 * i))
    reply: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: reply.append(arm.post("/jointreset")))
    thread.start()
    arm.waiting(lambda: bool(reply))
    thread.join()
    assert (reply[0].status_code, reply[0].text) == (200, "the arm is at its rest posture")
    np.testing.assert_allclose(arm.state()["q"], REST_Q, atol=0.02)
    rest = arm.state()["pose"]
    assert arm.step(rest).status_code == 200


def test_a_stop_gets_through_a_joint_reset(arm):
    start = arm.state()["pose"]
    arm.step(shifted(start, y=0.01))
    reply: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: reply.append(arm.post("/jointreset")))
    thread.start()
    arm.waiting(lambda: arm.v1("/v1/state").json()["mode"] == "moving", 0.01)
    assert arm.post("/pose", {"arr": arm.state()["pose"]}).status_code == 423
    assert arm.post("/jointreset").status_code == 409  # one is enough
    assert arm.v1("/v1/stop", {}).json()["mode"] == "stopped"
    arm.waiting(lambda: bool(reply))
    thread.join()
    assert (reply[0].status_code, reply[0].text) == (409, "the joint reset was cancelled: stop")


def test_a_client_that_dies_in_a_joint_reset_leaves_the_arm_holding(simulated):
    simulated.step(shifted(simulated.state()["pose"], y=0.01))
    address = httpx.URL(simulated.url)
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(b"POST /jointreset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        simulated.waiting(lambda: simulated.v1("/v1/state").json()["mode"] == "moving", 0.01)
    simulated.waiting(lambda: simulated.v1("/v1/state").json()["mode"] == "hold", 0.01)
    simulated.waiting(lambda: speed_m_s(simulated) < 0.01)
    assert simulated.v1("/v1/state").json()["lease_epoch"] == 0


def test_a_wrench_pushes_the_arm_away_until_it_stops_and_it_stays_there(arm):
    start = arm.state()["pose"]
    assert arm.post("/wrench", {"arr": [0.0] * 6}).status_code == 409  # not before /startwrench
    assert "0.25 m/s" in arm.post("/startwrench").text
    push = {"arr": [0.0, 8.0, 0.0, 0.0, 0.0, 0.0]}
    arm.waiting(lambda: arm.post("/wrench", push).status_code == 200 and arm.short_m(start) > 0.02)
    assert arm.post("/pose", {"arr": arm.state()["pose"]}).status_code == 409
    arm.wait(0.2)
    arm.waiting(lambda: speed_m_s(arm) < 0.005)
    pushed = arm.state()["pose"]
    assert arm.post("/stopwrench").status_code == 200
    arm.wait(1.0)
    assert arm.short_m(pushed) < 0.005  # the spring does not pull it back to where the wrench began
    assert arm.step(arm.state()["pose"]).status_code == 200


def test_readings_agree_with_each_other(arm):
    for _ in range(3):
        arm.step(shifted(arm.state()["pose"], y=0.005))
    state = arm.state()
    assert {name: np.shape(value) for name, value in state.items()} == {
        "pose": (7,), "vel": (6,), "force": (3,), "torque": (3,), "q": (7,), "dq": (7,), "jacobian": (6, 7),
        "gripper_pos": (),
    }  # fmt: skip
    np.testing.assert_allclose(np.array(state["jacobian"]) @ state["dq"], state["vel"], atol=0.02)
    json.dumps(state, allow_nan=False)


def test_a_reflex_stays_latched_and_the_arm_still(simulator):
    with franky_arm(simulator) as arm:
        start = arm.state()["pose"]
        before = simulator.ask("recoveries")
        arm.step(shifted(start, y=0.005))
        simulator.ask("reflex")
        arm.waiting(lambda: arm.post("/clearerr").status_code == 423)
        assert arm.step(shifted(start, y=0.01)).status_code == 423
        arm.wait(0.5)
        assert arm.v1("/v1/state").json()["fault"] == "reflex"
        assert simulator.ask("recoveries") == before


def test_a_reflex_is_cleared_by_the_client_if_the_server_was_told_so(simulator):
    with franky_arm(simulator, may_clear_errors=True) as arm:
        arm.step(arm.state()["pose"])
        simulator.ask("reflex")
        arm.waiting(lambda: arm.v1("/v1/state").json()["mode"] == "fault")
        assert arm.post("/clearerr").text == "cleared 'reflex'"
        start = arm.state()["pose"]
        for i in range(1, 11):
            arm.step(shifted(start, y=0.005 * i))
        arm.step_until_there(shifted(start, y=0.05))


def test_the_precision_set_reaches_an_fr3_without_its_integral(simulator):
    with franky_arm(simulator) as arm:
        reply = arm.post("/update_param", RAM_PRECISION)
        assert reply.status_code == 200
        assert "without translational_Ki and rotational_Ki" in reply.text
        assert "translational_clip_x 0.01 to 0.007417" in reply.text
