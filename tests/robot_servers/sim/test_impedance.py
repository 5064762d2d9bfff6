import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from robot_servers.backend import Reference
from robot_servers.sim.impedance import TORQUE_LIMIT_NM, TORQUE_STEP_NM, ImpedanceLaw, TorqueLimiter
from serl_core.robots.messages import ImpedanceParams

ORIGIN = np.zeros(3)
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
STILL = np.zeros(7)
TURNED = Rotation.from_rotvec((0.4, -0.9, 1.3)).as_quat()
DIRECT = np.eye(6, 7)  # each of the first six joints moves the tool along one axis: their torque is the wrench
STIFFNESS, CLIP, DAMPING = 2000.0, 0.008, 89.0


def law(target_filter_s=0.0, **params):
    params.setdefault("nullspace_stiffness_nm_rad", 0.0)
    made = ImpedanceLaw(ImpedanceParams(**params), target_filter_s=target_filter_s)
    made.restart(ORIGIN, UPRIGHT)
    return made


def wrench(made, position=ORIGIN, quaternion=UPRIGHT, dq=STILL):
    return made.torque(position, quaternion, STILL, dq, DIRECT)[:6].copy()


def follow(made, position=ORIGIN, quaternion=UPRIGHT, ticks=1):
    for _ in range(ticks):
        made.follow(Reference(np.array(position, float), np.array(quaternion, float)))


def test_small_error_is_pulled_back_with_the_stiffness():
    made = law()
    follow(made, (0.001, -0.002, 0.003))
    np.testing.assert_allclose(wrench(made)[:3], [2.0, -4.0, 6.0], atol=1e-9)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_force_never_exceeds_stiffness_times_clip(sign):
    made = law()
    follow(made, (sign, sign, sign))
    np.testing.assert_allclose(wrench(made)[:3], [sign * STIFFNESS * CLIP] * 3)


def test_clip_is_per_axis_and_sign():
    made = law(translational_clip_m=(0.001, 0.002, 0.003, 0.004, 0.005, 0.006))
    follow(made, (1.0, -1.0, 1.0))
    np.testing.assert_allclose(wrench(made)[:3], [4.0, -6.0, 12.0])
    follow(made, (-1.0, 1.0, -1.0))
    np.testing.assert_allclose(wrench(made)[:3], [-2.0, 8.0, -10.0])


def test_feed_forward_wrench_is_in_the_tools_axes_and_adds_to_the_spring():
    made = law()
    follow(made, (0.001, 0.0, 0.0), TURNED)
    made.target.restart((0.001, 0.0, 0.0, *TURNED.tolist()))
    push = np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
    with_push = made.torque(ORIGIN, TURNED, STILL, STILL, DIRECT, push)[:6].copy()
    turn = Rotation.from_quat(TURNED)
    np.testing.assert_allclose(
        with_push - wrench(made, quaternion=TURNED), [*turn.apply(push[:3]), *turn.apply(push[3:])]
    )


def test_rotational_stiffness_acts_on_the_half_angle():
    made = law()
    follow(made, quaternion=Rotation.from_rotvec((0.0, 0.0, 0.04)).as_quat())
    np.testing.assert_allclose(wrench(made)[3:], [0.0, 0.0, 150.0 * math.sin(0.02)], atol=1e-9)


def test_rotational_torque_never_exceeds_stiffness_times_clip():
    made = law()
    follow(made, quaternion=Rotation.from_rotvec((0.0, -2.0, 0.0)).as_quat())
    np.testing.assert_allclose(wrench(made)[3:], [0.0, -150.0 * 0.05, 0.0], atol=1e-9)


def test_damping_resists_the_tools_twist():
    dq = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0])
    np.testing.assert_allclose(wrench(law(), dq=dq), [-0.1 * DAMPING, 0, 0, 0, 0, -0.2 * 7.0], atol=1e-9)


def test_posture_torque_leaves_the_tool_alone():
    jacobian = np.random.default_rng(0).normal(size=(6, 7))
    torque = law(nullspace_stiffness_nm_rad=10.0).torque(ORIGIN, UPRIGHT, STILL, STILL, jacobian)
    assert np.abs(torque).max() > 0.1
    assert np.abs(jacobian @ torque).max() < 1e-3 * np.abs(torque).max()


def test_filter_reaches_63_percent_of_a_step_after_its_time_constant():
    made = law(target_filter_s=0.02)
    target = Rotation.from_rotvec((0.0, 0.4, 0.0))
    follow(made, (0.1, 0.0, 0.0), target.as_quat(), ticks=20)
    share = 1 - math.exp(-1)
    np.testing.assert_allclose(made.target.pose[:3], [0.1 * share, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(Rotation.from_quat(made.target.pose[3:]).as_rotvec(), [0.0, 0.4 * share, 0.0], atol=1e-9)


def test_filtered_rotation_follows_the_great_circle():
    """A straight line between quaternion components would lag behind slerp (REFERENCE section 6, fault 3)."""
    made = law(target_filter_s=0.002)
    target = Rotation.from_rotvec((1.0, 1.5, -0.5))
    follow(made, quaternion=target.as_quat())
    expected = Slerp([0, 1], Rotation.concatenate([Rotation.identity(), target]))(1 - math.exp(-0.5))
    np.testing.assert_allclose(made.target.pose[3:], expected.as_quat(), atol=1e-12)


def test_antipodal_reference_is_the_same_rotation():
    made = law(target_filter_s=0.02)
    follow(made, quaternion=-UPRIGHT, ticks=50)
    np.testing.assert_allclose(np.abs(made.target.pose[3:]), UPRIGHT, atol=1e-12)
    np.testing.assert_allclose(wrench(made), 0.0, atol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_reference_that_is_not_finite_moves_nothing(bad):
    made = law()
    assert not made.follow(Reference(np.array([0.0, bad, 0.0]), UPRIGHT))
    assert not made.follow(Reference(ORIGIN, np.array([0.0, 0.0, bad, 1.0])))
    assert made.target.pose[:3] == (0.0, 0.0, 0.0)
    np.testing.assert_allclose(wrench(made), 0.0, atol=1e-12)


def test_integral_removes_a_small_error():
    made = law(translational_ki=100.0)
    follow(made, (0.001, 0.0, 0.0))
    first = wrench(made)[0]
    for _ in range(1000):
        last = wrench(made)[0]
    np.testing.assert_allclose(last - first, 100.0 * 0.001 * 1.0, rtol=0.01)


def test_integral_does_not_wind_up_beyond_the_clip():
    made = law(translational_ki=1000.0)
    follow(made, (0.0075, 0.0, 0.0))
    for _ in range(2000):
        assert wrench(made)[0] <= STIFFNESS * CLIP + 1e-9
    follow(made, ORIGIN)
    assert wrench(made)[0] <= STIFFNESS * 0.001  # one clip's worth less than the 15 N of before: not 15 N more


def test_torque_changes_by_no_more_than_the_rate_limit():
    limiter = TorqueLimiter()
    before = np.zeros(7)
    for _ in range(5):
        after = limiter.apply(np.array([50.0, -50.0, 0.2, 0, 0, 0, 0]), np.zeros(7)).copy()
        assert np.abs(after - before).max() <= TORQUE_STEP_NM + 1e-12
        before = after
    np.testing.assert_allclose(before[:3], [2.5, -2.5, 0.2])


def test_torque_with_compensation_never_exceeds_the_clamp():
    limiter = TorqueLimiter()
    total = limiter.apply(np.zeros(7), np.array([200.0, -200.0, 10.0, 0.0, 50.0, -50.0, 1.0]))
    np.testing.assert_allclose(total, [86.0, -86.0, 10.0, 0.0, 11.5, -11.5, 1.0])
    assert TORQUE_LIMIT_NM == (86.0,) * 4 + (11.5,) * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_in_law", [True, False])
def test_torque_that_is_not_finite_repeats_the_previous_one_and_latches(bad, is_in_law):
    limiter = TorqueLimiter()
    good = limiter.apply(np.full(7, 0.25), np.full(7, 3.0)).copy()
    broken = np.full(7, 0.25)
    broken[4] = bad
    pair = (broken, np.full(7, 3.0)) if is_in_law else (np.full(7, 0.25), broken)
    np.testing.assert_array_equal(limiter.apply(*pair), good)
    assert limiter.numeric_fault
    np.testing.assert_allclose(limiter.apply(np.full(7, 0.25), np.full(7, 3.0)), good)
    assert limiter.numeric_fault
