"""The set-point's motion, over random targets: speed, acceleration and box are never left."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_servers.kernel_parts.slew import MinimumJerk, SetPoint
from robot_servers.limits import SafetyLimits, angle_between, check_pose
from serl_core.robots.messages import Vector7

LIMITS = SafetyLimits(box_low_m=(0.3, -0.1, 0.1), box_high_m=(0.5, 0.1, 0.3))
TICK_S = 0.001
QUICK = settings(max_examples=40, deadline=None)  # no deadline: the machine may be busy
START: Vector7 = (0.4, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)


def inside(low: float, high: float) -> st.SearchStrategy[float]:
    """Coordinates in a range, its two ends often: the walls are where it is hard."""
    return st.one_of(st.sampled_from([low, high]), st.floats(low, high))


@st.composite
def poses(draw: st.DrawFn) -> Vector7:
    """Any pose that the limits allow, with either sign of its quaternion."""
    position = [draw(inside(low, high)) for low, high in zip(LIMITS.box_low_m, LIMITS.box_high_m, strict=True)]
    tilt, heading, yaw = draw(st.floats(0.0, 0.79)), draw(st.floats(-3.1, 3.1)), draw(st.floats(-3.1, 3.1))
    axis = np.array([math.cos(heading), math.sin(heading), 0.0])
    turn = Rotation.from_rotvec(tilt * axis) * Rotation.from_euler("z", yaw) * Rotation.from_quat(START[3:])
    quaternion = draw(st.sampled_from([1.0, -1.0])) * turn.as_quat()
    return check_pose((*position, *quaternion.tolist()), LIMITS)


def follow(legs: list[tuple[Vector7, int]], set_point: SetPoint | None = None) -> np.ndarray:
    """Return the set-point [ticks, 7] while it is sent to each target for so many ticks."""
    set_point = set_point or SetPoint(LIMITS)
    set_point.place(START)
    path = [START, START]
    for target, ticks in legs:
        for _ in range(ticks):
            set_point.advance(target, TICK_S)
            path.append(set_point.pose)
    return np.array(path)


def velocities(path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return linear and angular velocities [ticks - 1, 3] of a path."""
    rotations = Rotation.from_quat(path[:, 3:])
    return np.diff(path[:, :3], axis=0) / TICK_S, (rotations[1:] * rotations[:-1].inv()).as_rotvec() / TICK_S


LEGS = st.lists(st.tuples(poses(), st.integers(1, 250)), min_size=1, max_size=8)


@QUICK
@given(LEGS)
def test_speed_and_acceleration_never_exceed_their_limits(legs):
    for velocity, speed, acceleration in zip(
        velocities(follow(legs)),
        (LIMITS.speed_m_s, LIMITS.speed_rad_s),
        (LIMITS.acceleration_m_s2, LIMITS.acceleration_rad_s2),
        strict=True,
    ):
        assert np.linalg.norm(velocity, axis=1).max() <= speed + 1e-6
        change = np.diff(velocity, axis=0) / TICK_S
        assert np.linalg.norm(change, axis=1).max() <= acceleration + 1e-3


@QUICK
@given(LEGS)
def test_the_set_point_never_leaves_the_box(legs):
    path = follow(legs)
    assert (path[:, :3] >= np.array(LIMITS.box_low_m) - 1e-12).all()
    assert (path[:, :3] <= np.array(LIMITS.box_high_m) + 1e-12).all()


def test_a_target_that_changes_while_it_brakes_before_a_wall_does_not_carry_it_through():
    """Spending the acceleration on the new direction, it went past the wall by part of its braking way."""
    wall = (0.5, 0.0, 0.2, *START[3:])
    along = (0.5, 0.1, 0.2, *START[3:])
    farthest = max(follow([(wall, ticks), (along, 300)])[:, 0].max() for ticks in range(380, 560, 6))
    assert farthest <= 0.5 + 1e-12


@QUICK
@given(LEGS)
def test_the_quaternion_stays_unit(legs):
    np.testing.assert_allclose(np.linalg.norm(follow(legs)[:, 3:], axis=1), 1.0, atol=1e-9)


@QUICK
@given(poses())
def test_it_arrives_exactly_and_rests(target):
    set_point = SetPoint(LIMITS)
    follow([(target, 6000)], set_point)
    assert set_point.is_at_rest
    assert set_point.pose == target
    reference = set_point.reference
    set_point.advance(target, TICK_S)
    assert set_point.reference is reference


@QUICK
@given(poses())
def test_it_turns_the_short_way_whatever_the_quaternions_sign(target):
    _, rate = velocities(follow([(target, 6000)]))
    turned = np.linalg.norm(rate, axis=1).sum() * TICK_S
    assert turned <= angle_between(START, target) + 1e-3


def test_a_full_stroke_takes_the_time_of_a_trapezoid():
    set_point = SetPoint(LIMITS)
    set_point.place((0.3, *START[1:]))
    ticks = 0
    while not set_point.is_at_rest or ticks == 0:
        set_point.advance((0.5, *START[1:]), TICK_S)
        ticks += 1
    ideal_s = 0.2 / LIMITS.speed_m_s + LIMITS.speed_m_s / LIMITS.acceleration_m_s2
    assert ticks * TICK_S == pytest.approx(ideal_s, abs=0.01)


def test_a_pause_of_the_control_loop_does_not_make_it_jump():
    set_point = SetPoint(LIMITS)
    set_point.place((0.3, *START[1:]))
    for _ in range(200):
        set_point.advance((0.5, *START[1:]), TICK_S)
    before = set_point.pose[0]
    set_point.advance((0.5, *START[1:]), 5.0)
    assert set_point.pose[0] - before <= 0.01 * LIMITS.speed_m_s + 1e-9


def test_held_outside_the_box_it_can_come_back_but_not_go_further_out():
    set_point = SetPoint(LIMITS)
    outside = (0.51, 0.0, 0.2, *START[3:])
    set_point.place(outside)
    farthest = 0.0
    for _ in range(2000):
        set_point.advance(START, TICK_S)
        farthest = max(farthest, set_point.pose[0])
    assert set_point.pose == START
    assert farthest <= outside[0]


@QUICK
@given(poses(), st.floats(0.02, 0.25), st.floats(0.1, 1.0))
def test_a_minimum_jerk_move_keeps_its_speed_and_ends_at_its_goal(goal, speed_m_s, speed_rad_s):
    move = MinimumJerk(START, goal, speed_m_s, speed_rad_s, LIMITS)
    path = np.array([move.along(i / 100) for i in range(101)])
    linear, angular = (velocity * TICK_S * 100 / max(move.duration_s, 1e-6) for velocity in velocities(path))
    assert np.linalg.norm(linear, axis=1).max() <= speed_m_s * 1.001
    assert np.linalg.norm(angular, axis=1).max() <= speed_rad_s * 1.001
    assert move.at(move.duration_s) == goal
