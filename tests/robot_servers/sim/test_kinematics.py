import math

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.sim.kinematics import inverse
from robot_servers.sim.model import LINKS, REST_Q
from robot_servers.sim.scenes import build_ram_insertion
from serl_core.errors import RobotError

# REFERENCE section 5, written down a second time on purpose: (x, y, z), turn about x.
JOINT_FRAMES = (
    ((0, 0, 0.333), 0.0),
    ((0, 0, 0), -90.0),
    ((0, -0.316, 0), 90.0),
    ((0.0825, 0, 0), 90.0),
    ((-0.0825, 0.384, 0), -90.0),
    ((0, 0, 0), 90.0),
    ((0.088, 0, 0), 90.0),
)

MODEL = build_ram_insertion().model


def transform(position, axis="z", degrees=0.0):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    matrix[:3, 3] = position
    return matrix


def forward_by_hand(q):
    matrix = np.eye(4)
    for (position, turn), angle in zip(JOINT_FRAMES, q, strict=True):
        matrix = matrix @ transform(position, "x", turn) @ transform((0, 0, 0), "z", math.degrees(angle))
    return matrix @ transform((0, 0, 0.107)) @ transform((0, 0, 0), "z", -45.0) @ transform((0, 0, 0.1034))


def forward_in_model(q):
    data = mujoco.MjData(MODEL)
    data.qpos[:7] = q
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_comPos(MODEL, data)
    site = MODEL.site("tcp").id
    jacobian = np.zeros((6, MODEL.nv))
    mujoco.mj_jacSite(MODEL, data, jacobian[:3], jacobian[3:], site)
    return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy(), jacobian[:, :7]


def random_postures(count):
    low, high = np.array([link.range_rad for link in LINKS]).T
    return np.random.default_rng(0).uniform(low, high, (count, 7))


def test_tool_pose_is_the_product_of_the_reference_transforms():
    for q in random_postures(50):
        position, rotation, _ = forward_in_model(q)
        by_hand = forward_by_hand(q)
        np.testing.assert_allclose(position, by_hand[:3, 3], atol=1e-12)
        np.testing.assert_allclose(rotation, by_hand[:3, :3], atol=1e-12)


def test_joint_limits_are_those_of_the_panda():
    low = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    high = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    np.testing.assert_allclose(MODEL.jnt_range[:7], np.stack([low, high], axis=1))


def test_jacobian_is_the_derivative_of_the_forward_kinematics():
    for q in random_postures(5):
        _, _, jacobian = forward_in_model(q)
        for joint in range(7):
            step = np.zeros(7)
            step[joint] = 1e-6
            ahead, behind = forward_by_hand(q + step), forward_by_hand(q - step)
            linear = (ahead[:3, 3] - behind[:3, 3]) / 2e-6
            angular = Rotation.from_matrix(ahead[:3, :3] @ behind[:3, :3].T).as_rotvec() / 2e-6
            np.testing.assert_allclose(jacobian[:, joint], [*linear, *angular], atol=1e-7)


def test_rest_posture_points_straight_down_with_the_tools_x_forward():
    np.testing.assert_allclose(forward_by_hand(REST_Q)[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)


def test_inverse_kinematics_puts_the_tool_at_the_pose():
    random = np.random.default_rng(1)
    for _ in range(20):
        position = random.uniform((0.35, -0.3, 0.05), (0.65, 0.3, 0.5))
        rotation = Rotation.from_rotvec(random.uniform(-0.3, 0.3, 3)) * Rotation.from_quat((1, 0, 0, 0))
        q = inverse(MODEL, (*position.tolist(), *rotation.as_quat().tolist()))
        reached = forward_by_hand(q)
        np.testing.assert_allclose(reached[:3, 3], position, atol=2e-6)
        np.testing.assert_allclose(reached[:3, :3], rotation.as_matrix(), atol=5e-6)


def test_inverse_kinematics_stays_near_the_rest_posture():
    pose = forward_by_hand(REST_Q)
    q = inverse(MODEL, (*pose[:3, 3].tolist(), 1.0, 0.0, 0.0, 0.0))
    np.testing.assert_allclose(q, REST_Q, atol=1e-5)


@pytest.mark.parametrize("position", [(1.2, 0.0, 0.3), (0.0, 0.0, 0.1), (0.5, 0.0, -0.9)])
def test_pose_out_of_reach_is_refused_by_name(position):
    with pytest.raises(RobotError, match="cannot reach") as refusal:
        inverse(MODEL, (*position, 1.0, 0.0, 0.0, 0.0))
    assert refusal.value.field == "pose"
    assert f"pose ({position[0]:g}, " in str(refusal.value)
