import math

import numpy as np

from robot_servers.sim.gains import RampedGains
from serl_core.robots.messages import ImpedanceParams

SOFT = ImpedanceParams(translational_stiffness_n_m=1000.0, translational_damping_ns_m=60.0)
STIFF = ImpedanceParams(translational_stiffness_n_m=2000.0, translational_damping_ns_m=90.0)


def ramp(gains, ticks, may_rise=True):
    for _ in range(ticks):
        gains.ramp(may_rise=may_rise)


def test_gains_ramp_with_a_time_constant_of_a_tenth_of_a_second():
    gains = RampedGains(SOFT)
    gains.set_goal(STIFF)
    ramp(gains, 100)
    np.testing.assert_allclose(gains.axes[0][0], 1000.0 + 1000.0 * (1 - math.exp(-1)), rtol=1e-9)


def test_gains_arrive_exactly():
    gains = RampedGains(SOFT)
    gains.set_goal(STIFF)
    ramp(gains, 3000)
    assert gains.is_settled
    assert gains.axes == RampedGains(STIFF).axes


def test_no_gain_rises_while_the_arm_pushes():
    gains = RampedGains(SOFT)
    gains.set_goal(STIFF)
    ramp(gains, 200, may_rise=False)
    assert gains.axes == RampedGains(SOFT).axes
    assert not gains.is_settled


def test_gains_fall_while_the_arm_pushes():
    gains = RampedGains(STIFF)
    gains.set_goal(SOFT)
    ramp(gains, 500, may_rise=False)
    assert gains.axes[0][0] < 1010.0


def test_spring_force_stays_between_the_two_settings_while_stiffness_and_clip_ramp():
    narrow = ImpedanceParams(translational_stiffness_n_m=3000.0, translational_clip_m=(0.005,) * 6)
    wide = ImpedanceParams(translational_stiffness_n_m=750.0, translational_clip_m=(0.02,) * 6)
    gains = RampedGains(narrow)
    gains.set_goal(wide)
    for _ in range(300):
        gains.ramp(may_rise=True)
        np.testing.assert_allclose(gains.axes[2][3:], [15.0, 15.0], rtol=1e-9)


def test_each_axis_and_sign_has_its_own_clip():
    clips = (0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
    gains = RampedGains(ImpedanceParams(translational_stiffness_n_m=1000.0, translational_clip_m=clips))
    np.testing.assert_allclose([axis[3:] for axis in gains.axes[:3]], [[1, 2], [3, 4], [5, 6]])
