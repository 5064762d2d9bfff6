"""What HIL-SERL's commands do to a point mass: poses, parameters, controllers, gripper, load and faults."""

import math
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.serl_routes.routes import JOINT_RESETS
from robot_servers.testing import HOME
from serl_core import geometry
from serl_core.errors import RobotError
from tests.robot_servers.serl_routes.serl_rig import Rig, at, epoch, mode, point_mass, told


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


# ---- the kernel stays in force


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"arr": [5.0, *HOME[1:]]}, 422, "x = 5.0000 m is outside the workspace"),
        ({"arr": [0.65, *HOME[1:]]}, 422, "0.1500 m from the arm, allowed is 0.1 m"),
        ({"arr": [*HOME[:3], 0.0, 0.0, 0.0, 0.1]}, 422, "the quaternion's norm is 0.100"),
        ({"arr": [*HOME[:3], 0.0, 0.0, 0.0, 1.0]}, 422, "tilted"),
        ({"arr": list(HOME[:6])}, 422, "length 7"),
        ({"arr": [*HOME[:6], "0"]}, 422, "arr[6]"),
        ({"arr": [*HOME[:6], True]}, 422, "arr[6]"),
        ({"pose": list(HOME)}, 422, "pose"),
        ({}, 422, "arr"),
        ("", 400, ""),
        ('{"arr": [0.5, 0, 0.3, 1, 0, 0, NaN]}', 422, "arr[6]"),
        ('{"arr": [0.5, 0, 0.3, 1, 0, 0, 1e999]}', 422, "arr[6]"),
    ],
)
def test_a_refused_pose_is_a_sentence_and_moves_nothing(untouched_arm, body, status, sentence):
    options = {"content": body, "headers": {"Content-Type": "application/json"}} if isinstance(body, str) else {}
    response = untouched_arm.post("/pose", None if options else body, **options)
    assert response.status_code == status
    assert sentence in response.text
    untouched_arm.wait(0.2)
    assert untouched_arm.state()["pose"] == list(HOME)
    assert epoch(untouched_arm) == 0


def test_a_stream_of_refused_poses_feeds_neither_watchdog_nor_lease(arm):
    arm.post("/pose", at(0.55))
    for _ in range(3):
        arm.wait(0.12)
        assert arm.post("/pose", at(5.0)).status_code == 422
    assert mode(arm) == "hold"
    for _ in range(18):
        arm.wait(0.1)
        arm.post("/pose", at(5.0))
    assert epoch(arm) == 0


def test_a_refusal_is_logged_when_it_begins_and_not_at_every_pose(arm, caplog):
    for x in (5.0, 5.0, 0.5, 5.0, 0.65, 0.65):
        arm.post("/pose", at(x))
    assert [record.message[:43] for record in caplog.records] == ["/pose of a HIL-SERL client is refused: x = "] * 2 + [
        "/pose of a HIL-SERL client is refused: the "
    ]


@pytest.mark.parametrize("norm", [0.6, 0.97, 1.4])
def test_a_quaternion_that_interpolation_has_shortened_is_an_orientation_all_the_same(arm, norm):
    """These clients interpolate its components: the kernel's own tolerance of 1 % would refuse turns of 0.6 rad."""
    turned = geometry.euler_to_quaternion(np.array([math.pi, 0.0, 0.2]))
    assert arm.post("/pose", {"arr": [*HOME[:3], *(norm * turned)]}).status_code == 200
    arm.wait(0.29)
    assert geometry.distance(np.array(arm.state()["pose"]), np.array([*HOME[:3], *turned]))[1] < 0.05


def test_poses_come_no_faster_than_100_per_second(arm):
    statuses = [arm.post("/pose", at()).status_code for _ in range(30)]
    assert statuses[:20] == [200] * 20
    assert statuses[20:] == [429] * 10


# ---- compliance


def test_the_parameters_inside_the_envelope_are_taken_as_they_are(arm, caplog):
    reply = arm.post("/update_param", {"translational_stiffness": 1500, "translational_clip_neg_y": 0.003})
    assert (reply.status_code, reply.text) == (200, "the compliance parameters are set")
    ((params,),) = told(arm, "set_impedance")
    assert params.translational_stiffness_n_m == 1500.0
    assert params.translational_clip_m == (0.01, 0.01, 0.01, 0.003, 0.01, 0.01)
    assert caplog.text == ""


def test_parameters_are_kept_until_they_are_changed(arm):
    arm.post("/update_param", {"translational_stiffness": 1500})
    arm.post("/update_param", {"rotational_Ki": 0.1})
    params = told(arm, "set_impedance")[-1][0]
    assert (params.translational_stiffness_n_m, params.rotational_ki) == (1500.0, 0.1)


def test_a_wish_that_was_clamped_comes_true_when_the_others_allow_it(arm):
    assert "translational_clip_x 0.02 to" in arm.post("/update_param", {"translational_clip_x": 0.02}).text
    reply = arm.post("/update_param", {"translational_stiffness": 500, "translational_damping": 60})
    assert reply.text == "the compliance parameters are set"
    assert told(arm, "set_impedance")[-1][0].translational_clip_m[0] == 0.02


def test_what_the_limits_change_is_in_the_reply_and_in_the_log(arm, caplog):
    reply = arm.post("/update_param", {"translational_stiffness": 6000, "translational_damping": 0})
    assert reply.status_code == 200
    for said in (reply.text, caplog.text):
        assert "translational_stiffness 6000 to 3000" in said
        assert "translational_damping 0 to 76.68" in said
    ((params,),) = told(arm, "set_impedance")
    assert params.translational_stiffness_n_m == 3000.0


def test_a_parameter_without_a_counterpart_is_named(arm):
    reply = arm.post("/update_param", {"joint1_nullspace_stiffness": 100, "nullspace_stiffness": 0.2})
    assert "joint1_nullspace_stiffness has no counterpart here" in reply.text
    assert told(arm, "set_impedance")[-1][0].nullspace_stiffness_nm_rad == 0.2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"translational_stifness": 100}, "translational_stifness"),
        ({"translational_stiffness": "100"}, "translational_stiffness"),
        ({"translational_stiffness": None}, "translational_stiffness"),
        ({"translational_clip_x": [0.1]}, "translational_clip_x"),
        ([], "array"),
    ],
)
def test_a_wrong_parameter_changes_nothing(untouched_arm, body, name):
    response = untouched_arm.post("/update_param", body)
    assert response.status_code == 422
    assert name in response.text
    assert untouched_arm.backend.calls == []


def test_an_arm_without_integral_gains_gets_the_others(arm, monkeypatch):
    def set_impedance(params) -> None:
        if params.translational_ki:
            raise Refusal(422, "unsupported", "this arm has no integral gains")
        arm.backend.calls.append(("set_impedance", params))

    monkeypatch.setattr(arm.backend, "set_impedance", set_impedance)
    reply = arm.post("/update_param", {"translational_Ki": 0.1, "translational_stiffness": 1000})
    assert reply.status_code == 200
    assert "without translational_Ki and rotational_Ki: this arm has no integral gains" in reply.text
    ((params,),) = told(arm, "set_impedance")
    assert (params.translational_stiffness_n_m, params.translational_ki) == (1000.0, 0.0)


# ---- controllers


def test_a_stopped_impedance_controller_follows_no_pose_until_it_is_started(arm):
    arm.post("/pose", at(0.55))
    assert arm.post("/stopimp").status_code == 200
    arm.wait(0.01)
    assert (mode(arm), epoch(arm)) == ("hold", 0)
    refused = arm.post("/pose", at(0.55))
    assert (refused.status_code, refused.text) == (409, "the impedance controller does not run; post /startimp first")
    assert arm.post("/startimp").status_code == 200
    assert arm.post("/pose", at(0.55)).status_code == 200


def test_the_wrench_mode_takes_wrenches_and_gives_the_gains_back(arm):
    arm.post("/update_param", {"translational_stiffness": 1500})
    arm.post("/startwrench")
    assert "clipped to [20.0, 0.0, -20.0, 0.0, 5.0, 0.0]" in arm.post("/wrench", {"arr": [99, 0, -99, 0, 9, 0]}).text
    arm.wait(0.05)
    np.testing.assert_allclose(arm.backend.references[-1][-6:], [20.0, 0.0, -20.0, 0.0, 5.0, 0.0])
    arm.wait(0.1)
    np.testing.assert_allclose(arm.backend.references[-1][-6:], np.zeros(6))
    assert "they take effect with /stopwrench" in arm.post("/update_param", {"rotational_stiffness": 200}).text
    arm.post("/stopwrench")
    before, free, after = (params for (params,) in told(arm, "set_impedance"))
    assert free.translational_stiffness_n_m * free.translational_clip_m[0] < 1.0
    assert after.translational_stiffness_n_m == before.translational_stiffness_n_m == 1500.0
    assert after.rotational_stiffness_nm_rad == 200.0
    assert arm.post("/wrench", {"arr": [1, 0, 0, 0, 0, 0]}).status_code == 409


def test_stopping_a_wrench_mode_that_does_not_run_changes_nothing(arm):
    assert arm.post("/stopwrench").status_code == 200
    assert arm.backend.calls == []


# ---- gripper and load


@pytest.mark.parametrize(
    ("path", "position", "speed_m_s"),
    [("/open_gripper", 1.0, 0.1), ("/close_gripper", 0.0, 0.1), ("/close_gripper_slow", 0.0, 0.1 / 3.0)],
)
def test_the_gripper_moves_within_the_limits(arm, path, position, speed_m_s):
    assert arm.post(path).status_code == 200
    assert told(arm, "set_gripper") == [(position, pytest.approx(speed_m_s), 60.0)]


@pytest.mark.parametrize(("byte", "position"), [(0, 0.0), (255, 1.0), (102, 0.4), (-3, 0.0), (300.5, 1.0)])
def test_the_gripper_moves_to_0_to_255_clipped(arm, byte, position):
    arm.post("/move_gripper", {"gripper_pos": byte})
    assert told(arm, "set_gripper")[0][0] == pytest.approx(position)
    assert arm.post("/get_gripper").json()["gripper"] == pytest.approx(position)


def test_on_a_robotiq_255_is_closed():
    with point_mass(is_255_closed=True) as arm:
        arm.post("/move_gripper", {"gripper_pos": 255})
        assert told(arm, "set_gripper")[0][0] == 0.0


@pytest.mark.parametrize("path", ["/activate_gripper", "/reset_gripper"])
def test_the_gripper_needs_no_activation(untouched_arm, path):
    reply = untouched_arm.post(path)
    assert (reply.status_code, reply.text[:13]) == (200, "nothing to do")
    assert untouched_arm.backend.calls == []


@pytest.mark.parametrize(("may_clear", "status", "calls"), [(False, 423, []), (True, 200, [("recover_gripper",)])])
def test_a_gripper_at_fault_is_activated_only_if_the_operator_allowed_that(may_clear, status, calls):
    """These routes said that there was nothing to do, and every command to the gripper was refused for ever."""
    with point_mass(may_clear_errors=may_clear) as arm:
        arm.backend.gripper_cause = "gripper_lost"
        assert arm.post("/clearerr").text == "there is nothing to clear"  # that is the arm's
        reply = arm.post("/activate_gripper")
        assert (reply.status_code, arm.backend.calls) == (status, calls)
        assert "gripper_lost" in reply.text


def test_the_load_reaches_the_arm(arm):
    inertia = [0.001, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.001]
    body = {"mass": 0.5, "F_x_center_load": [0.0, 0.0, 0.05], "load_inertia": inertia}
    assert arm.post("/set_load", body).status_code == 200
    assert told(arm, "set_load") == [(0.5, (0.0, 0.0, 0.05), tuple(inertia))]
    refused = arm.post("/set_load", body | {"mass": 9.0})
    assert (refused.status_code, refused.text) == (422, "mass_kg must be 0 to 3, got 9")


# ---- faults


def test_clearing_errors_on_a_healthy_arm_does_nothing(arm):
    arm.post("/pose", at(0.55))
    references = arm.backend.references
    assert arm.post("/clearerr").text == "there is nothing to clear"
    assert mode(arm) == "tracking"
    assert (arm.backend.calls, arm.backend.references) == ([], references)


def test_a_fault_stays_latched_unless_the_server_was_told_otherwise(arm):
    arm.post("/pose", at(0.55))
    arm.backend.fail("reflex")
    arm.wait(0.01)
    for _ in range(5):
        reply = arm.post("/clearerr")
        assert reply.status_code == 423
        assert "--serl-clear-errors" in reply.text
        assert arm.post("/pose", at(0.55)).status_code == 423
        arm.wait(0.1)
    assert mode(arm) == "fault"
    assert told(arm, "recover") == []


def test_with_the_option_clearing_errors_recovers_and_the_arm_stays():
    with point_mass(may_clear_errors=True) as arm:
        arm.post("/pose", at(0.55))
        arm.wait(0.1)
        arm.backend.fail("reflex")
        arm.wait(0.01)
        assert arm.post("/pose", at(0.55)).status_code == 423
        assert arm.post("/clearerr").text == "cleared 'reflex'"
        before = arm.state()["pose"]
        arm.wait(0.5)
        assert mode(arm) == "hold"
        assert math.dist(arm.state()["pose"][:3], before[:3]) < 1e-3
        assert arm.post("/pose", at(0.55)).status_code == 200


def test_no_more_than_three_faults_in_ten_minutes_are_cleared():
    """A client that clears errors before each command would undo every reflex, unseen."""
    now_s = [0.0]
    with point_mass(may_clear_errors=True, clock=lambda: now_s[0]) as arm:
        for expected in (200, 200, 200, 423):
            arm.backend.fail("reflex")
            arm.wait(0.01)
            assert arm.post("/clearerr").status_code == expected
            now_s[0] += 60.0
        assert "find out why" in arm.post("/clearerr").text
        now_s[0] = 601.0
        assert arm.post("/clearerr").status_code == 200


@pytest.mark.parametrize("may_clear_errors", [False, True])
def test_a_stop_is_never_cleared(may_clear_errors):
    with point_mass(may_clear_errors=may_clear_errors) as arm:
        arm.v1("/v1/stop", {})
        reply = arm.post("/clearerr")
        assert (reply.status_code, reply.text) == (423, "the arm was stopped (stop); look, then /v1/resume")
        assert mode(arm) == "stopped"


def test_a_driver_that_cannot_do_it_is_a_sentence(arm, monkeypatch):
    def set_gripper(*_: float) -> None:
        raise RobotError("the gripper does not answer")

    monkeypatch.setattr(arm.backend, "set_gripper", set_gripper)
    reply = arm.post("/open_gripper")
    assert (reply.status_code, reply.text) == (503, "the gripper does not answer")
    assert epoch(arm) == 0


@pytest.mark.parametrize("path", JOINT_RESETS)
def test_a_joint_reset_that_does_not_arrive_is_said(path):
    with point_mass(limits=SafetyLimits(joint_reset_timeout_s=1.0)) as arm:
        arm.backend.start_joint_reset = lambda: None
        arm.backend.joint_reset_error_rad = lambda: 1.0
        reply: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: reply.append(httpx.post(arm.url + path, timeout=60.0)))
        thread.start()
        while mode(arm) != "moving":
            time.sleep(0.002)
        arm.wait(1.1)  # and no more: the lease lasts 2 s, and a busy server renews it late
        thread.join()
        assert reply[0].status_code == 504
        assert "did not arrive within 1 s" in reply[0].text
        assert mode(arm) == "fault"
