import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.arm_parts.target_filter import TargetFilter
from robot_servers.backend import Reference

START = (0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)
GOAL = Reference(
    np.array([0.52, -0.01, 0.3]), (Rotation.from_rotvec([0.1, 0.2, -0.3]) * Rotation.from_quat([1, 0, 0, 0])).as_quat()
)


def test_its_time_constant_does_not_depend_on_the_rate():
    for ticks in (1, 4, 20):
        each = TargetFilter(0.02)
        each.restart(START)
        for _ in range(ticks):
            each.follow(GOAL, 0.02 / ticks)
        assert each.pose[0] == pytest.approx(0.5 + 0.02 * (1.0 - math.exp(-1.0)))


def test_without_a_time_constant_it_is_there_at_once():
    each = TargetFilter(0.0)
    each.restart(START)
    each.follow(GOAL, 0.004)
    np.testing.assert_allclose(each.pose, (*GOAL.position_m, *GOAL.quaternion), atol=1e-12)


def test_the_other_sign_of_a_quaternion_is_the_same_rotation():
    each = TargetFilter(0.02)
    each.restart(START)
    each.follow(Reference(np.array(START[:3]), -np.array(START[3:])), 0.01)
    np.testing.assert_allclose(np.abs(each.pose), np.abs(START), atol=1e-12)


def test_what_is_not_finite_moves_nothing():
    each = TargetFilter(0.02)
    each.restart(START)
    assert not each.follow(Reference(np.array([0.5, math.inf, 0.3]), np.array(START[3:])), 0.01)
    assert not each.follow(Reference(np.array(START[:3]), np.array([math.nan, 0.0, 0.0, 0.0])), 0.01)
    assert each.pose == START
