import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.teleop.puck import OperatorSide, SpaceMouseConfig, beyond_dead_zone, tool_twist
from serl_core.errors import ConfigError
from serl_core.geometry import DOWN, rotation_vector_to_quaternion, twist_from_local

RIGHT, AWAY, UP = np.eye(3)
NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])
unit = st.floats(-1.0, 1.0, allow_nan=False)
deflections = st.lists(unit, min_size=6, max_size=6).map(np.array)
rotations = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array).map(rotation_vector_to_quaternion)


def shifted(direction):
    return np.concatenate([direction, np.zeros(3)])


def turned(axis):
    return np.concatenate([np.zeros(3), axis])


def in_base(deflection, config, tool=DOWN):
    return twist_from_local(tool, tool_twist(deflection, tool, config))


@pytest.mark.parametrize(
    ("side", "right", "away"),
    [
        (OperatorSide.BEHIND, (0, -1, 0), (1, 0, 0)),
        (OperatorSide.FRONT, (0, 1, 0), (-1, 0, 0)),
        (OperatorSide.LEFT, (-1, 0, 0), (0, -1, 0)),
        (OperatorSide.RIGHT, (1, 0, 0), (0, 1, 0)),
    ],
)
def test_a_push_moves_the_tool_the_way_the_person_sees_it_from_every_side(side, right, away):
    config = SpaceMouseConfig(operator=side)
    for push, way in ((RIGHT, right), (AWAY, away), (UP, (0, 0, 1))):
        np.testing.assert_allclose(in_base(shifted(push), config), shifted(way), atol=1e-12)
        np.testing.assert_allclose(in_base(turned(push), config), turned(way), atol=1e-12)


def test_down_at_the_puck_is_forward_along_a_tool_that_points_down():
    np.testing.assert_allclose(tool_twist(shifted(-UP), DOWN, SpaceMouseConfig()), shifted(UP), atol=1e-12)


def test_a_device_turned_on_its_table_is_turned_back():
    behind = SpaceMouseConfig(operator=OperatorSide.BEHIND)
    turned_left = dataclasses.replace(behind, turn_deg=90.0)
    np.testing.assert_allclose(in_base(shifted(RIGHT), turned_left), in_base(shifted(AWAY), behind), atol=1e-12)


@given(deflections, rotations)
def test_the_tool_s_own_rotation_does_not_change_the_way_it_is_moved(deflection, tool):
    config = SpaceMouseConfig(translation_scale=0.5, rotation_scale=0.5)  # no diagonal reaches the end of the range
    np.testing.assert_allclose(in_base(deflection, config, tool), in_base(deflection, config, NO_TURN), atol=1e-9)


@given(deflections, rotations, st.sampled_from(OperatorSide), st.floats(-180.0, 180.0))
def test_no_push_leaves_the_action_s_range(deflection, tool, side, turn_deg):
    config = SpaceMouseConfig(operator=side, turn_deg=turn_deg)
    assert np.abs(tool_twist(deflection, tool, config)).max() <= 1.0


def test_a_diagonal_at_the_end_of_the_range_keeps_its_direction():
    tool = rotation_vector_to_quaternion(np.array([0.0, 0.0, np.pi / 4]))
    config = SpaceMouseConfig(operator=OperatorSide.RIGHT)  # the puck's axes are the base's
    pushed = in_base(shifted(np.array([1.0, 1.0, 0.2])), dataclasses.replace(config, dead_zone=0.0), tool)
    np.testing.assert_allclose(pushed[:3] / pushed[0], [1.0, 1.0, 0.2], atol=1e-9)


def test_shift_and_turn_have_a_scale_each_and_zero_locks():
    config = SpaceMouseConfig(translation_scale=0.5, rotation_scale=0.0)
    twist = tool_twist(np.ones(6), NO_TURN, config)
    np.testing.assert_allclose(np.abs(twist), [0.5] * 3 + [0.0] * 3)


def test_what_lies_within_the_dead_zone_is_nothing_and_beyond_it_grows_from_zero():
    deflection = np.array([0.1, -0.1, 0.11, -0.55, 1.0, 0.0])
    np.testing.assert_allclose(beyond_dead_zone(deflection, 0.1), [0, 0, 0.01 / 0.9, -0.5, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        {"dead_zone": -0.1},
        {"dead_zone": 1.0},
        {"dead_zone": float("nan")},
        {"translation_scale": 1.5},
        {"rotation_scale": -1.0},
        {"turn_deg": float("inf")},
        {"devices": ("A", "A")},
        {"gripper_buttons": ("LEFT",), "hand_back_buttons": ("RIGHT", "LEFT")},
    ],
)
def test_a_config_outside_the_possible_is_refused(bad):
    with pytest.raises(ConfigError, match=r"SpaceMouseConfig.*(must be|of its own|other buttons)"):
        SpaceMouseConfig(**bad)
