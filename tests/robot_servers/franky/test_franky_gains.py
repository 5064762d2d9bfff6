"""The impedance parameters in franky's terms."""

import math

import numpy as np
import pytest

from robot_servers.franky.gains import axis_clips, cartesian_gains, nullspace_gains
from serl_core.robots.messages import ImpedanceParams

PARAMS = ImpedanceParams()


def test_the_default_of_150_on_the_half_angle_is_75_on_the_full_one():
    gains = cartesian_gains(PARAMS)
    np.testing.assert_allclose(np.diag(gains.stiffness), [2000.0] * 3 + [75.0] * 3)
    assert axis_clips(PARAMS)[1] == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("angle_rad", [0.001, 0.02, 0.1])
def test_a_small_turn_gives_the_same_torque_in_both_laws(angle_rad):
    stiffness = np.diag(cartesian_gains(PARAMS).stiffness)[3]
    half = PARAMS.rotational_stiffness_nm_rad * math.sin(angle_rad / 2)
    assert stiffness * angle_rad == pytest.approx(half, rel=1e-3)


def test_at_the_clip_the_torque_is_the_same_and_so_is_the_force():
    gains, clips = np.diag(cartesian_gains(PARAMS).stiffness), axis_clips(PARAMS)
    torque = PARAMS.rotational_stiffness_nm_rad * PARAMS.rotational_clip_rad[0]
    assert gains[3] * clips[1][0] == pytest.approx(torque)
    assert gains[0] * clips[0][0] == pytest.approx(16.0)


def test_damping_acts_on_the_angular_velocity_in_both_laws_and_keeps_its_number():
    np.testing.assert_allclose(np.diag(cartesian_gains(PARAMS).damping), [89.0] * 3 + [7.0] * 3)


def test_frankys_own_clip_of_an_axis_is_the_larger_of_its_two_signs():
    params = ImpedanceParams(
        translational_clip_m=(0.002, 0.0075, 0.001, 0.001, 0.006, 0.005),
        rotational_clip_rad=(0.01, 0.02, 0.03, 0.01, 0.05, 0.05),
    )
    assert axis_clips(params) == ((0.0075, 0.001, 0.006), (0.04, 0.06, 0.1))


def test_the_posture_has_the_stiffness_of_the_null_space():
    np.testing.assert_allclose(nullspace_gains(PARAMS).posture_stiffness, [10.0] * 7)
