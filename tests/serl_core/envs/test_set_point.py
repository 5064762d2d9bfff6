import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.ram_insertion import CONFIG
from serl_core.config import ActionConfig
from serl_core.envs.set_point import revised, set_point
from tests.serl_core.strategies import vectors

SPEC = CONFIG.action.spec
WITH_GRIPPER = ActionConfig(has_gripper=True).spec
MEASURED = np.array(CONFIG.reset.pose)


def only_x(value):
    return np.array([value, 0, 0, 0, 0, 0], np.float32)


def test_a_takeover_with_a_quarter_of_the_step_to_go_counts_a_quarter():
    mean = revised(SPEC, only_x(0.0), only_x(0.0), only_x(1.0), 0.25)
    np.testing.assert_allclose(mean, only_x(0.25))


def test_a_command_that_ceases_leaves_what_it_has_asked_for_so_far():
    """The target would go back to where the step began, and the arm with it, if it was not the mean."""
    mean = revised(SPEC, only_x(1.0), only_x(1.0), only_x(0.0), 0.25)
    np.testing.assert_allclose(mean, only_x(0.75))


@given(st.lists(st.tuples(st.floats(0.0, 1.0), vectors(6)), min_size=1, max_size=5), vectors(6))
def test_what_is_asked_for_is_the_mean_of_the_commands_weighted_by_time(changes, first):
    changes = sorted(changes, key=lambda change: change[0])
    asked = held = first
    for at, command in changes:
        asked, held = revised(SPEC, asked, held, command, 1.0 - at), command
    times = [0.0, *(at for at, _ in changes), 1.0]
    commands = [first, *(command for _, command in changes)]
    np.testing.assert_allclose(asked, np.diff(times) @ np.array(commands), atol=1e-5)


def test_the_newest_command_to_the_gripper_counts_whole():
    still, close = np.zeros(7, np.float32), np.array([0.5] * 6 + [-1.0], np.float32)
    mean = revised(WITH_GRIPPER, still, still, close, 0.1)
    np.testing.assert_allclose(mean, [0.05] * 6 + [-1.0])


@given(vectors(6))
def test_where_nothing_is_clipped_the_arm_is_told_what_was_asked_for(action):
    told = set_point(action.astype(np.float32), MEASURED, CONFIG)
    np.testing.assert_allclose(told.executed, action, atol=1e-6)
    assert told.gripper is None


def test_a_target_outside_the_box_is_told_as_the_smaller_action_that_reaches_its_edge():
    corner = np.array([*CONFIG.box.low_m, *CONFIG.target_pose[3:]])
    told = set_point(np.array([0, 0, 1, 0, 0, 0], np.float32), corner, CONFIG)
    assert CONFIG.box.contains(tuple(told.target[:3].tolist()))
    assert told.executed[2] == pytest.approx(0.0, abs=1e-6)
