"""An arm that was held in motion: when its swing is over."""

import numpy as np

from robot_servers.kernel_parts.settling import LONGEST_S, Settling

AT = (0.0, 0.0, 0.0)


def along(x: float) -> np.ndarray:
    return np.array([x, 0.0, 0.0])


def test_the_end_of_a_swing_is_where_the_arm_begins_to_come_back():
    settling = Settling()
    settling.begin(along(0.2), 1.0)
    assert not settling.comes_back((0.004, 0.0, 0.0), AT, along(0.1), 1.05)
    assert not settling.comes_back((0.006, 0.0, 0.0), AT, along(0.01), 1.08)
    assert settling.comes_back((0.006, 0.0, 0.0), AT, along(-0.01), 1.09)
    assert not settling.comes_back((0.006, 0.0, 0.0), AT, along(-0.02), 1.1)


def test_an_arm_that_hardly_moves_is_held_where_it_is():
    settling = Settling()
    settling.begin(along(0.02), 1.0)
    assert not settling.is_on


def test_a_hand_that_pushes_later_moves_no_set_point():
    settling = Settling()
    settling.begin(along(0.2), 1.0)
    assert not settling.comes_back((0.004, 0.0, 0.0), AT, along(0.1), 1.0 + LONGEST_S)
    assert not settling.is_on
