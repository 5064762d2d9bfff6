"""Steering in the tool's, the base's and a camera's axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.console.browser_messages import Frame
from actors.console.steering_frames import SIMULATED, Mounting, load_mountings, to_tool
from serl_core.errors import ConfigError
from serl_core.geometry import DOWN, twist_from_local

UNIT = st.floats(-1.0, 1.0)
TWISTS = st.tuples(UNIT, UNIT, UNIT, UNIT, UNIT, UNIT).map(np.array)
QUATERNIONS = (
    st.tuples(UNIT, UNIT, UNIT, UNIT).filter(lambda q: np.linalg.norm(q) > 0.1).map(lambda q: q / np.linalg.norm(q))
)


def test_a_command_in_the_tools_axes_stays_as_it_is():
    twist = np.array([1.0, -1.0, 0.5, 0.1, 0.2, 0.3])
    assert to_tool(twist, Frame.TOOL, None, None) is twist


def test_up_in_the_base_is_backwards_for_a_tool_that_points_down():
    up = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(to_tool(up, Frame.BASE, DOWN, None), [0, 0, -1, 0, 0, 0], atol=1e-12)


def test_a_turn_and_a_move_in_the_base_do_not_mix():
    """The increment of a pose maps with diag(R, R): a pure move never turns the tool (REFERENCE section 6, fault 1)."""
    move = np.array([0.3, -0.4, 0.5, 0.0, 0.0, 0.0])
    turn = np.array([0.0, 0.0, 0.0, 0.3, -0.4, 0.5])
    tool = np.array([0.6, 0.2, -0.3, 0.7])
    tool /= np.linalg.norm(tool)
    assert not to_tool(move, Frame.BASE, tool, None)[3:].any()
    assert not to_tool(turn, Frame.BASE, tool, None)[:3].any()


@given(TWISTS, QUATERNIONS)
def test_a_command_in_the_base_means_the_same_there_after_the_way_through_the_tool(twist, tool):
    tool_twist = to_tool(twist, Frame.BASE, tool, None)
    assert np.abs(tool_twist).max() <= 1.0
    back = twist_from_local(tool, tool_twist).reshape(2, 3)
    for half, meant in zip(back, twist.reshape(2, 3), strict=True):  # shortened at most, never bent
        np.testing.assert_allclose(np.cross(half, meant), 0.0, atol=1e-9)
        assert half @ meant >= -1e-12


def test_into_the_simulated_wrist_cameras_picture_is_where_it_looks():
    """It looks from beside the hand at the tool's tip: forwards for the tool, and towards its middle."""
    into = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    x, y, z, *turn = to_tool(into, Frame.CAMERA, None, SIMULATED["wrist"])
    assert z == pytest.approx(0.126 / np.hypot(0.1, 0.126))
    assert x == pytest.approx(-0.1 / np.hypot(0.1, 0.126))
    assert y == pytest.approx(0.0, abs=1e-9)
    assert turn == [0.0, 0.0, 0.0]


def test_the_simulated_wrist_camera_is_turned_as_in_the_simulators_model():
    """MuJoCo's camera has x to the right, y up and looks along -z: half a turn about x from ours."""
    from robot_servers.sim.model import WRIST_CAMERA_AIM_M, WRIST_CAMERA_M, camera_quaternion
    from serl_core.geometry import quaternion_to_matrix

    w, x, y, z = camera_quaternion(WRIST_CAMERA_M, WRIST_CAMERA_AIM_M, up=(0.0, 0.0, -1.0))
    mujoco = quaternion_to_matrix(np.array([x, y, z, w]))
    ours = quaternion_to_matrix(np.array(SIMULATED["wrist"].quaternion))
    np.testing.assert_allclose(ours, mujoco @ np.diag([1.0, -1.0, -1.0]), atol=1e-6)


def test_a_camera_that_stands_beside_the_arm_steers_through_the_base():
    mounting = Mounting("base", (0.0, 0.0, 0.0, 1.0))
    twist = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    by_camera = to_tool(twist, Frame.CAMERA, DOWN, mounting)
    np.testing.assert_allclose(by_camera, to_tool(twist, Frame.BASE, DOWN, None))


def test_what_is_not_known_is_refused_instead_of_guessed():
    twist = np.zeros(6)
    with pytest.raises(ConfigError, match="where the tool points is not known yet"):
        to_tool(twist, Frame.BASE, None, None)
    with pytest.raises(ConfigError, match="nobody knows how this camera is mounted"):
        to_tool(twist, Frame.CAMERA, DOWN, None)


def test_mountings_come_from_a_file(tmp_path):
    path = tmp_path / "mountings.json"
    path.write_text('{"side": {"on": "base", "quaternion": [0, 0, 0, 1]}}')
    assert load_mountings(path) == {"side": Mounting("base", (0.0, 0.0, 0.0, 1.0))}
    assert load_mountings(None) == SIMULATED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"side": {"on": "moon", "quaternion": [0, 0, 0, 1]}}',
        '{"side": {"on": "base", "quaternion": [1, 1, 1, 1]}}',
    ],
)
def test_a_wrong_file_of_mountings_says_how_it_must_look(tmp_path, text):
    path = tmp_path / "mountings.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="write"):
        load_mountings(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_mountings(tmp_path / "none.json")
