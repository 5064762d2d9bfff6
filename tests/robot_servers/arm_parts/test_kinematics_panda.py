import math

import mujoco
import numpy as np
import panda_py
import pytest

from robot_servers.arm_parts.kinematics_panda import REST_Q, TCP_M, hand_pose, jacobian, joint_axes
from robot_servers.sim import model as simulated
from robot_servers.sim.model import LINKS, panda_spec

MODEL = panda_spec().compile()
LOW, HIGH = np.array([link.range_rad for link in LINKS]).T
POSTURES = np.random.default_rng(0).uniform(LOW, HIGH, (50, 7))


def in_model(q):
    data = mujoco.MjData(MODEL)
    data.qpos[:7] = q
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_comPos(MODEL, data)
    site, lever = MODEL.site("tcp").id, np.zeros((6, MODEL.nv))
    mujoco.mj_jacSite(MODEL, data, lever[:3], lever[3:], site)
    return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy(), lever[:, :7]


def test_pose_and_jacobian_are_those_of_the_simulators_model():
    for q in POSTURES:
        position, rotation, lever = in_model(q)
        pose = hand_pose(q.tolist())
        np.testing.assert_allclose(pose[:3, 3], position, atol=1e-9)
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-9)
        np.testing.assert_allclose(jacobian(q.tolist()), lever, atol=1e-9)


def test_pose_is_that_of_panda_pys_own_kinematics_but_for_its_shorter_hand():
    """Written by others: a mistake in REFERENCE would show here. Franka's documents have 0.1034 m, panda_py 0.103 m."""
    shorter = np.eye(4)
    shorter[2, 3] = 0.103 - TCP_M
    for q in POSTURES:
        np.testing.assert_allclose(hand_pose(q.tolist()) @ shorter, panda_py.fk(q), atol=1e-6)


def test_jacobian_is_the_derivative_of_the_pose_for_any_tool():
    step = 1e-6
    tool = np.array([0.02, -0.01, 0.15, 1.0])  # in the flange
    for q in POSTURES[:10]:
        tcp = joint_axes(q.tolist()).flange @ tool
        lever = jacobian(q.tolist(), tcp[:3])
        for joint in range(7):
            moved = q.copy()
            moved[joint] += step
            by_difference = (joint_axes(moved.tolist()).flange @ tool - tcp)[:3] / step
            np.testing.assert_allclose(lever[:3, joint], by_difference, atol=1e-5)


def test_rest_posture_is_the_simulators_and_points_down():
    assert REST_Q == simulated.REST_Q
    np.testing.assert_allclose(hand_pose(REST_Q)[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-9)


def test_seven_angles_are_needed():
    with pytest.raises(ValueError, match="zip"):
        joint_axes([math.pi] * 6)
