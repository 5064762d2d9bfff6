import numpy as np
from hypothesis import given

from serl_core.config import SafetyBox
from serl_core.envs.safety import clip_target
from serl_core.geometry import tilt_rad
from tests.serl_core.strategies import downward_poses, poses

BOX = SafetyBox(low_m=(-0.3, -0.2, 0.0), high_m=(0.3, 0.2, 0.5), max_tilt_rad=0.5)


@given(poses())
def test_a_clipped_target_is_inside_the_box_and_the_cone(target):
    clipped = clip_target(target, BOX)
    assert BOX.contains(tuple(clipped[:3].tolist()))
    assert tilt_rad(clipped[3:]) <= BOX.max_tilt_rad + 1e-7


@given(poses())
def test_clipping_twice_is_clipping_once(target):
    once = clip_target(target, BOX)
    twice = clip_target(once, BOX)
    np.testing.assert_array_equal(twice[:3], once[:3])
    # One rotation, whatever the quaternions' signs.
    np.testing.assert_allclose(abs(twice[3:] @ once[3:]), 1.0, atol=1e-9)


@given(downward_poses())
def test_a_target_that_is_allowed_is_not_changed(target):
    target[:3] = np.clip(target[:3], BOX.low_m, BOX.high_m)
    np.testing.assert_array_equal(clip_target(target, BOX), target)


@given(poses())
def test_the_clip_does_not_edit_its_input(target):
    before = target.copy()
    clip_target(target, BOX)
    np.testing.assert_array_equal(target, before)
