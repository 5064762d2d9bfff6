"""The joint guard on its own: limits of 3 rad and 2 rad/s, joint 1 moves the tool along x, joint 7 turns it about z."""

import math

import numpy as np
import pytest

from robot_servers.backend import JointLimits
from robot_servers.kernel_parts.joint_guard import JointGuard
from robot_servers.limits import Refusal

LIMITS = JointLimits(low_rad=(-3.0,) * 7, high_rad=(3.0,) * 6 + (2.0,), speed_rad_s=(2.0,) * 6 + (2.5,))
JACOBIAN = np.zeros((6, 7))
JACOBIAN[0, 0] = JACOBIAN[5, 6] = 1.0
STILL = [0.0] * 7
DOWN = (1.0, 0.0, 0.0, 0.0)
HERE = (0.5, 0.0, 0.3, *DOWN)


def joints(first: float = 0.0, last: float = 0.0) -> list[float]:
    return [first, 0.0, 0.0, 0.0, 0.0, 0.0, last]


def guard(q: list[float], jacobian: np.ndarray = JACOBIAN) -> JointGuard:
    made = JointGuard(LIMITS)
    assert made.measure(q, STILL, jacobian)
    return made


def along(dx: float) -> tuple[float, ...]:
    return (0.5 + dx, 0.0, 0.3, *DOWN)


def about(angle: float) -> tuple[float, ...]:
    return (*HERE[:3], math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0)


# ---- readings


@pytest.mark.parametrize(
    ("joint", "speed", "is_fast"),
    [(2, 1.99, False), (2, 2.01, True), (2, -2.01, True), (6, 2.4, False), (6, -2.51, True)],
)
def test_each_joint_has_its_own_speed_limit(joint, speed, is_fast):
    made, dq = guard(STILL), list(STILL)
    dq[joint] = speed
    assert made.measure(STILL, dq, JACOBIAN)
    assert (made.too_fast is not None) is is_fast
    if is_fast:
        assert f"joint {joint + 1} turns at {speed:.3f} rad/s" in made.too_fast
    made.measure(STILL, STILL, JACOBIAN)
    assert made.too_fast is None


def test_all_joints_just_below_their_speed_are_allowed():
    made = guard(STILL)
    assert made.measure(STILL, [1.9, -1.9] * 3 + [2.4], JACOBIAN)
    assert made.too_fast is None


@pytest.mark.parametrize(("q", "is_near"), [(2.94, False), (2.96, True), (-2.94, False), (-2.96, True), (3.1, True)])
def test_a_joint_within_fifty_milliradians_of_its_limit_is_near(q, is_near):
    assert guard(joints(q)).is_near is is_near


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reading_that_is_not_finite_is_dropped(value):
    made = guard(joints(2.96))
    assert not made.measure(joints(value), STILL, JACOBIAN)
    assert not made.measure(STILL, joints(0.0, value), JACOBIAN)
    assert made.is_near
    assert made.too_fast is None


# ---- targets


@pytest.mark.parametrize(
    ("q", "target", "joint"),
    [
        (joints(2.90), along(0.06), 1),
        (joints(-2.90), along(-0.06), 1),
        (joints(2.96), along(0.002), 1),
        (joints(3.02), along(0.002), 1),
        (joints(0.0, 1.90), about(0.1), 7),
        (joints(0.0, -2.90), about(-0.1), 7),
    ],
)
def test_a_target_that_takes_a_joint_further_into_its_margin_is_refused(q, target, joint):
    with pytest.raises(Refusal, match=rf"joint {joint} would turn from .* allowed is .* /v1/joint_reset") as refused:
        guard(q).check_target(target, HERE)
    refusal = refused.value
    assert (refusal.status, refusal.kind, refusal.field) == (422, "joint_limit", "pose")
    change = sum(b - a for a, b in zip(HERE[:3], target[:3], strict=True)) or (0.1 if q[6] > 0 else -0.1)
    assert refusal.given == pytest.approx(q[joint - 1] + change, abs=1e-3)
    assert refusal.limit == pytest.approx([-2.95, 2.95 if joint == 1 else 1.95])


@pytest.mark.parametrize(
    ("q", "target"),
    [
        (joints(2.90), along(0.04)),  # not as far as the margin
        (joints(2.96), along(-0.001)),  # out of it, however little
        (joints(3.10), along(-0.02)),  # also from beyond the limit
        (joints(-2.99), along(0.02)),
        (joints(2.99), HERE),  # stay
        (joints(2.99), along(0.0005)),  # stay, with a reading that flickers
        (joints(2.99), about(0.3)),  # another joint's business
        (joints(0.0, -2.96), about(0.1)),
    ],
)
def test_a_target_that_does_not_is_let_through(q, target):
    guard(q).check_target(target, HERE)


def test_near_a_singularity_the_prediction_stays_bounded():
    """The undamped inverse asked 1000 rad of the first joint."""
    guard(joints(0.0), JACOBIAN * 1e-4).check_target(along(0.1), HERE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_with_a_jacobian_that_is_not_finite_no_target_passes(value):
    broken = JACOBIAN.copy()
    broken[2, 3] = value
    with pytest.raises(Refusal) as refused:
        guard(STILL, broken).check_target(along(0.01), HERE)
    assert refused.value.problem().given is None
    assert guard(joints(2.96), broken).driven_in(HERE, HERE, HERE) is not None
    assert guard(joints(2.96), broken).pushed_in((0.0,) * 6, HERE) is not None


def test_the_jacobian_is_copied():
    changing = JACOBIAN.copy()
    made = guard(joints(2.90), changing)
    changing[:] = 0.0
    with pytest.raises(Refusal):
        made.check_target(along(0.06), HERE)


# ---- set-points


@pytest.mark.parametrize(
    ("q", "set_point", "ahead", "is_driven"),
    [
        (2.96, 0.01, 0.02, True),
        (2.96, 0.01, 0.01, True),  # arrived, and pulling
        (2.96, 0.01, -0.05, False),  # on its way out
        (2.96, -0.01, 0.05, False),  # not yet
        (2.96, 0.0005, 0.05, False),
        (2.94, 0.05, 0.08, False),  # outside the margin
        (-2.96, -0.01, -0.02, True),
        (-2.96, 0.01, 0.02, False),
    ],
)
def test_a_set_point_drives_a_joint_in_that_is_in_the_margin_unless_it_is_on_its_way_out(
    q, set_point, ahead, is_driven
):
    driven = guard(joints(q)).driven_in(HERE, along(set_point), along(ahead))
    assert (driven is not None) is is_driven
    if is_driven:
        assert f"joint 1 at {q:.3f} rad" in driven


# ---- wrenches


@pytest.mark.parametrize(
    ("q", "wrench", "joint"),
    [
        (joints(2.96), (5.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1),
        (joints(-2.96), (-5.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1),
        (joints(0.0, 1.97), (0.0, 0.0, 0.0, 0.0, 0.0, -1.0), 7),  # the tool's z points down
        (joints(2.96), (-5.0, 0.0, 0.0, 0.0, 0.0, 0.0), None),
        (joints(2.96), (0.05, 9.0, 9.0, 1.0, 1.0, 1.0), None),
        (joints(2.94), (5.0, 0.0, 0.0, 0.0, 0.0, 0.0), None),
    ],
)
def test_a_wrench_may_not_push_a_joint_in_the_margin_further_in(q, wrench, joint):
    made = guard(q)
    if joint is None:
        made.check_wrench(wrench, HERE)
        assert made.pushed_in(wrench, HERE) is None
        return
    with pytest.raises(Refusal, match=f"joint {joint} at") as refused:
        made.check_wrench(wrench, HERE)
    assert (refused.value.kind, refused.value.field) == ("joint_limit", "wrench")
