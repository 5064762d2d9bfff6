"""The lead of the set-point over an arm that becomes too fast."""

import numpy as np
import pytest

from robot_servers.kernel_parts.speed_governor import LARGEST_LEAD_M, SpeedGovernor
from robot_servers.limits import SafetyLimits

AT = (0.5, 0.0, 0.3)
AHEAD = (0.6, 0.0, 0.3)


def steady(speed_m_s, ahead=AHEAD):
    """Return the lead along x that is left after an arm has moved at one speed for a while."""
    governor = SpeedGovernor(SafetyLimits())
    for _ in range(200):
        bounded = governor.bounded(ahead, AT, np.array([speed_m_s, 0.0, 0.0]), 0.001)
    return bounded[0] - AT[0]


@pytest.mark.parametrize("speed_m_s", [0.0, 0.1, 0.2, 0.219, float("nan")])
def test_below_its_share_of_the_limit_nothing_is_changed(speed_m_s):
    assert steady(speed_m_s) == AHEAD[0] - AT[0]


def test_the_faster_the_arm_the_less_the_lead_and_none_at_the_limit():
    leads = [steady(speed) for speed in (0.221, 0.23, 0.24, 0.25, 0.2625, 0.4)]
    assert leads[0] < LARGEST_LEAD_M
    assert leads == sorted(leads, reverse=True)
    assert leads[-2:] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_a_set_point_behind_the_arm_stays_there():
    assert steady(0.4, ahead=(0.45, 0.0, 0.3)) == pytest.approx(-0.05)


def test_an_arm_that_shoots_off_is_bounded_before_it_is_too_fast():
    governor = SpeedGovernor(SafetyLimits())
    for tick in range(20):
        bounded = governor.bounded(AHEAD, AT, np.array([0.01 * tick, 0.0, 0.0]), 0.001)
    assert 0.01 * tick < 0.2
    assert bounded[0] < AHEAD[0]
