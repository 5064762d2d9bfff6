import numpy as np
from hypothesis import given

from examples.ram_insertion import CONFIG
from serl_core.config import ActionConfig
from serl_core.envs.frames import action_to_target, target_to_action
from serl_core.geometry import DOWN
from tests.serl_core.strategies import poses, vectors

SCALE = ActionConfig(translation_m=0.01, rotation_rad=0.06)


@given(poses(), vectors(6))
def test_an_executed_action_read_back_in_the_policys_frame_is_the_action(measured, action):
    target = action_to_target(action, measured, SCALE)
    np.testing.assert_allclose(target_to_action(target, measured, SCALE), action, atol=1e-7)


@given(poses())
def test_no_action_asks_for_the_measured_pose(measured):
    target = action_to_target(np.zeros(6), measured, SCALE)
    np.testing.assert_allclose(target[:3], measured[:3], atol=1e-12)
    np.testing.assert_allclose(abs(target[3:] @ measured[3:]), 1.0, atol=1e-12)


def test_a_tool_that_points_down_goes_down_by_the_scale_for_an_action_of_one_along_its_z_axis():
    measured = np.concatenate([[0.5, 0.0, 0.1], DOWN])
    target = action_to_target(np.array([0, 0, 1.0, 0, 0, 0]), measured, CONFIG.action)
    np.testing.assert_allclose(target, [0.5, 0.0, 0.1 - CONFIG.action.translation_m, *DOWN], atol=1e-12)


def test_the_action_turns_about_the_tools_own_axes():
    measured = np.concatenate([np.zeros(3), DOWN])
    turned = action_to_target(np.array([0, 0, 0, 0, 0, 1.0]), measured, SCALE)
    # A positive turn about the tool's z axis is a negative one about the base's.
    yaw = -SCALE.rotation_rad
    np.testing.assert_allclose(turned[3:], [np.cos(yaw / 2), np.sin(yaw / 2), 0, 0], atol=1e-12)
