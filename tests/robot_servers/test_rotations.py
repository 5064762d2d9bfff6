import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_servers.rotations import half_turn, rotated, rotation_between, turned

TURN = st.tuples(*[st.floats(-1.8, 1.8)] * 3)


@given(TURN, TURN)
def test_a_vector_is_turned_as_by_its_rotation_matrix(turn, vector):
    rotation = Rotation.from_rotvec(turn)
    np.testing.assert_allclose(rotated(rotation.as_quat(), vector), rotation.apply(vector), atol=1e-12)


@given(TURN, TURN)
def test_the_rotation_between_two_orientations_leads_from_one_to_the_other(first, second):
    start, goal = (tuple(Rotation.from_rotvec(turn).as_quat().tolist()) for turn in (first, second))
    between = rotation_between(start, goal)
    assert math.hypot(*between) <= math.pi + 1e-9
    there = turned(start, between, 1.0)
    assert abs(np.dot(there, goal)) == pytest.approx(1.0, abs=1e-12)


def test_the_same_orientation_needs_no_turn_also_with_the_other_sign():
    quaternion = (0.5, 0.5, 0.5, 0.5)
    assert rotation_between(quaternion, quaternion) == (0.0, 0.0, 0.0)
    assert rotation_between(quaternion, (-0.5, -0.5, -0.5, -0.5)) == (0.0, 0.0, 0.0)
    assert turned(quaternion, (0.0, 0.0, 0.0), 1.0) == quaternion


def test_the_half_turn_is_the_sine_of_half_the_angle_the_short_way():
    start, turn = Rotation.random(random_state=2), Rotation.from_rotvec((0.0, 0.3, 0.0))
    target = (turn * start).as_quat()
    for sign in (1.0, -1.0):
        error = half_turn((sign * target).tolist(), start.as_quat().tolist())
        np.testing.assert_allclose(error, (0.0, math.sin(0.15), 0.0), atol=1e-12)
