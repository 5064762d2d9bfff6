"""The limits of the arm that is connected, from its own model."""

import pytest
from franky_sim.urdf import FR3_URDF

from robot_servers.franky.joint_limits import joint_limits
from serl_core.errors import RobotError


def test_the_ends_are_those_of_the_arms_model_and_of_no_table():
    limits = joint_limits(FR3_URDF)
    assert (limits.low_rad[3], limits.high_rad[3]) == (-3.077, -0.1169)
    wider = joint_limits(FR3_URDF.replace('lower="-3.077"', 'lower="-3.2"'))
    assert wider.low_rad[3] == -3.2


def test_where_the_speed_falls_towards_the_end_the_limit_is_what_franka_suggests_everywhere():
    assert joint_limits(FR3_URDF).speed_rad_s == (2.0, 1.0, 1.5, 1.25, 3.0, 1.5, 3.0)


def test_where_it_does_not_the_limit_is_a_margin_below_the_joints_own():
    fixed = FR3_URDF.replace("position_based_velocity_limits", "other").replace('velocity="2.62"', 'velocity="2.175"')
    assert joint_limits(fixed).speed_rad_s[:4] == pytest.approx((2.075,) * 4)


@pytest.mark.parametrize(
    ("urdf", "complaint"),
    [
        ("no xml", "no XML"),
        ("<robot/>", "0 joints"),
        (FR3_URDF.replace('upper="4.6216"', ""), "'upper' of 'joint6'"),
    ],
)
def test_a_model_without_them_is_refused(urdf, complaint):
    with pytest.raises(RobotError, match=complaint):
        joint_limits(urdf)
