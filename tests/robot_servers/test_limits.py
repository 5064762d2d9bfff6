"""What the kernel's checks let through, and what they say when they do not."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_servers.limits import (
    Refusal,
    SafetyLimits,
    check_gripper,
    check_load,
    check_pose,
    check_step,
    check_wrench,
    load_limits,
)
from serl_core.config import SafetyBox
from serl_core.errors import ConfigError
from serl_core.robots.messages import GripperCommand, LoadCommand

LIMITS = SafetyLimits()
POSE = (0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)


def with_value(index: int, value: float) -> tuple[float, ...]:
    return tuple(value if i == index else number for i, number in enumerate(POSE))


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_name(index, value):
    with pytest.raises(Refusal) as refused:
        check_pose(with_value(index, value), LIMITS)
    assert (refused.value.status, refused.value.field) == (422, f"pose[{index}]")


def test_a_pose_needs_seven_numbers():
    with pytest.raises(Refusal, match="pose needs 7 numbers"):
        check_pose(POSE[:6], LIMITS)


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.98, 1.02, 100.0])
def test_a_quaternion_far_from_unit_is_refused(scale):
    with pytest.raises(Refusal, match="norm"):
        check_pose((*POSE[:3], scale, 0.0, 0.0, 0.0), LIMITS)


@given(st.floats(0.991, 1.009), st.floats(-0.3, 0.3), st.floats(-3.0, 3.0))
def test_a_quaternion_near_unit_is_normalised(scale, tilt, yaw):
    quaternion = (
        math.cos(tilt) * math.cos(yaw),
        math.cos(tilt) * math.sin(yaw),
        math.sin(tilt) * math.cos(yaw),
        math.sin(tilt) * math.sin(yaw),
    )
    pose = check_pose((*POSE[:3], *(scale * q for q in quaternion)), LIMITS)
    assert math.hypot(*pose[3:]) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("index", "value"), [(0, 0.09), (0, 1.01), (1, -0.41), (1, 0.41), (2, -0.06), (2, 1.01)])
def test_a_pose_outside_the_box_is_refused_with_what_is_allowed(index, value):
    with pytest.raises(Refusal) as refused:
        check_pose(with_value(index, value), LIMITS)
    assert refused.value.field == f"pose[{index}]"
    assert refused.value.given == value
    assert refused.value.limit == [LIMITS.box_low_m[index], LIMITS.box_high_m[index]]


@pytest.mark.parametrize(("tilt", "is_allowed"), [(0.79, True), (0.81, False), (math.pi, False)])
def test_the_tool_may_tilt_only_within_its_cone(tilt, is_allowed):
    pose = (*POSE[:3], math.cos(tilt / 2), 0.0, math.sin(tilt / 2), 0.0)
    if is_allowed:
        check_pose(pose, LIMITS)
    else:
        with pytest.raises(Refusal, match="tilted"):
            check_pose(pose, LIMITS)


def test_a_target_must_be_near_the_arm():
    check_step((0.599, *POSE[1:]), POSE, LIMITS)
    with pytest.raises(Refusal, match=r"0\.1010 m from the arm"):
        check_step((0.601, *POSE[1:]), POSE, LIMITS)
    turned = (*POSE[:3], math.cos(0.3), math.sin(0.3), 0.0, 0.0)
    with pytest.raises(Refusal, match=r"0\.6000 rad"):
        check_step(turned, POSE, LIMITS)


@pytest.mark.parametrize(
    "change",
    [
        {"mass_kg": -0.1},
        {"mass_kg": 3.1},
        {"center_m": (0.0, 0.2, 0.3)},
        {"inertia_kg_m2": (-0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01)},
        {"inertia_kg_m2": (0.01, 0.005, 0, 0, 0.01, 0, 0, 0, 0.01)},
        {"inertia_kg_m2": (0.01, 0.02, 0, 0.02, 0.01, 0, 0, 0, 0.01)},
        {"inertia_kg_m2": (1e200, 1e200, 0, 1e200, 1e200, 0, 0, 0, 1e200)},  # its minors are not numbers
    ],
)
def test_a_payload_that_cannot_be_is_refused(change):
    good = LoadCommand(
        epoch=1, mass_kg=0.5, center_m=(0.0, 0.0, 0.05), inertia_kg_m2=(0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01)
    )
    check_load(good, LIMITS)
    with pytest.raises(Refusal):
        check_load(msgspec.structs.replace(good, **change), LIMITS)


@pytest.mark.parametrize("change", [{"position": 1.1}, {"speed_m_s": 0.2}, {"speed_m_s": 0.0}, {"force_n": 130.0}])
def test_a_gripper_command_outside_its_range_is_refused(change):
    good = GripperCommand(epoch=1, position=0.5)
    check_gripper(good, LIMITS)
    with pytest.raises(Refusal):
        check_gripper(msgspec.structs.replace(good, **change), LIMITS)


def test_limits_come_from_a_file(tmp_path):
    path = tmp_path / "limits.json"
    path.write_text('{"speed_m_s": 0.1, "box_low_m": [0.2, -0.2, 0.0]}')
    limits = load_limits(path)
    assert (limits.speed_m_s, limits.box_low_m, limits.step_m) == (0.1, (0.2, -0.2, 0.0), 0.1)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"speed": 0.1}',
        '{"speed_m_s": 1.1}',
        '{"speed_m_s": "0.1"}',
        '{"box_low_m": [1.5, 0, 0]}',
        '{"command_timeout_s": 5.0}',
        '{"box_exit_m": -0.01}',
        '{"soft_wall_m": -0.01}',
        '{"soft_wall_n_m": 1001.0}',
        '{"soft_wall_m": 0.1, "soft_wall_n_m": 500.0}',
    ],
)
def test_a_wrong_limits_file_is_named(tmp_path, text):
    path = tmp_path / "limits.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"limits\.json"):
        load_limits(path)


def test_a_soft_wall_may_push_as_hard_as_a_wrench_and_no_harder():
    SafetyLimits(soft_wall_m=0.08, soft_wall_n_m=500.0)
    with pytest.raises(ValueError, match=r"soft_wall_n_m \* \(soft_wall_m \+ box_exit_m\) must be 0 to 50, got 60"):
        SafetyLimits(soft_wall_m=0.1, soft_wall_n_m=500.0)


def test_a_missing_limits_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        load_limits(tmp_path / "none.json")


def test_a_refusal_names_what_was_given_and_what_is_allowed():
    problem = Refusal(422, "outside_box", "too far", field="pose[0]", given=2.0, limit=[0.1, 1.0]).problem()
    assert (problem.status, problem.type, problem.field) == (422, "urn:serl:outside_box", "pose[0]")
    assert (problem.given, problem.limit) == (2.0, [0.1, 1.0])


def test_the_env_and_the_server_agree_on_what_straight_down_is():
    box = SafetyBox(low_m=(0.4, -0.1, 0.1), high_m=(0.6, 0.1, 0.4))
    assert box.max_tilt_rad < LIMITS.max_tilt_rad
    check_pose(POSE, SafetyLimits(max_tilt_rad=1e-6))


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_wrench_is_limited_on_each_axis(index, sign):
    limit = 20.0 if index < 3 else 5.0

    def wrench(value: float) -> tuple[float, ...]:
        return tuple(sign * value if i == index else 0.0 for i in range(6))

    check_wrench(wrench(limit), LIMITS)
    for value in (limit + 0.01, math.inf, math.nan):
        with pytest.raises(Refusal) as refused:
            check_wrench(wrench(value), LIMITS)
        assert (refused.value.status, refused.value.field) == (422, f"wrench[{index}]")
