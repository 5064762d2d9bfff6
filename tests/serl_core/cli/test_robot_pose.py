import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serl_core.cli.robot_pose import Frame, pose_line, stepped, tool_yaw_rad, where
from serl_core.config import ResetConfig, SafetyBox, TaskConfig
from serl_core.geometry import distance, euler_to_quaternion, turn_about_base_z
from serl_core.testing.fakes import FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
POSE = (0.5, 0.0, 0.2, *DOWN)
angles = st.floats(-1.0, 1.0)
positions = st.floats(-0.1, 0.1)


def at(pose):
    return FakeRobot(pose, pose).state()


def test_a_step_in_the_bases_axes_goes_along_them():
    assert stepped(POSE, (0.01, 0.02, 0.03, 0.0, 0.0, 0.0), Frame.BASE) == pytest.approx((0.51, 0.02, 0.23, *DOWN))


def test_a_step_in_the_tools_axes_goes_down_along_its_z():
    assert stepped(POSE, (0.01, 0.02, 0.03, 0.0, 0.0, 0.0), Frame.TOOL) == pytest.approx((0.51, -0.02, 0.17, *DOWN))


@pytest.mark.parametrize(("frame", "sign"), [(Frame.BASE, 1.0), (Frame.TOOL, -1.0)])
def test_a_turn_leaves_the_tools_centre_point_where_it_is(frame, sign):
    """The tool points down: its yaw axis is the base's, upside down."""
    turned = stepped(POSE, (0.0, 0.0, 0.0, 0.0, 0.0, 0.3), frame)
    assert turned[:3] == pytest.approx(POSE[:3])
    assert tool_yaw_rad(turned) == pytest.approx(sign * 0.3)


@given(st.tuples(positions, positions, positions, angles, angles, angles), st.tuples(angles, angles, angles))
def test_a_step_and_the_same_step_back_end_where_they_began(step, euler):
    here = (0.5, 0.1, 0.2, *euler_to_quaternion(np.array(euler)).tolist())
    for frame in Frame:
        there = stepped(here, (*step[:3], 0.0, 0.0, 0.0), frame)
        back = stepped(there, (*(-value for value in step[:3]), 0.0, 0.0, 0.0), frame)
        assert distance(np.array(here), np.array(back))[0] < 1e-9
        turned = stepped(here, (0.0, 0.0, 0.0, 0.0, 0.0, step[5]), frame)
        again = stepped(turned, (0.0, 0.0, 0.0, 0.0, 0.0, -step[5]), frame)
        assert distance(np.array(here), np.array(again))[1] < 1e-7


@given(st.floats(-math.pi + 1e-3, math.pi - 1e-3))
def test_the_yaw_is_the_turn_about_the_bases_vertical_axis(angle):
    pose = tuple(turn_about_base_z(np.array(POSE), angle).tolist())
    assert tool_yaw_rad(pose) == pytest.approx(angle, abs=1e-9)


def test_what_where_prints_is_python_that_makes_a_task():
    """Pasted, the pose passes the config's own checks: its quaternion is a unit one after rounding."""
    pose = stepped(POSE, (0.0123456789, 0.0, 0.0, 0.1, 0.05, 0.7), Frame.BASE)
    names: dict = {}
    exec(where(at(pose)), names)
    assert names["pose"] == pytest.approx(pose, abs=1e-6)
    box = SafetyBox(low_m=(0.4, -0.1, 0.1), high_m=(0.6, 0.1, 0.3))
    TaskConfig(name="t", box=box, target_pose=names["pose"], reset=ResetConfig(pose=names["pose"]))


def test_where_says_yaw_and_tilt_in_degrees_the_joints_and_the_wrench():
    said = where(at(stepped(POSE, (0.0, 0.0, 0.0, 0.0, 0.0, math.radians(30.0)), Frame.BASE)))
    assert "yaw 30.00 degrees" in said
    assert "0.00 degrees from straight down" in said
    assert "q: 0.0000, 0.0000, 0.0000, -1.9000" in said
    assert "0.0, 0.0, 0.0 N" in said


def test_nothing_is_printed_as_a_negative_zero():
    assert pose_line((-0.0, -1e-9, 0.5, 1.0, 0.0, 0.0, 0.0)) == "(0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0)"
    nearly = stepped(POSE, (0.0, 0.0, 0.0, 0.0, 0.0, -1e-6), Frame.BASE)
    assert "yaw 0.00 degrees" in where(at(nearly))
