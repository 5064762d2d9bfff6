"""Inverse kinematics of the arm: damped least squares from the rest posture."""

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_servers.rotations import half_turn
from robot_servers.sim.model import REST_Q
from serl_core.errors import RobotError
from serl_core.robots.messages import Vector7

Floats = NDArray[np.float64]

JOINTS = 7
DAMPING = 1e-4  # of the least squares, m and rad alike
LARGEST_STEP_RAD = 0.3
POSTURE_GAIN = 0.3  # per iteration, towards the rest posture in the null space
LIMIT_MARGIN_RAD = 0.02
TOLERANCE = 1e-6  # m and rad
ITERATIONS = 200


def inverse(model: mujoco.MjModel, pose: Vector7) -> Floats:
    """Return joint angles [7] in rad that put the tool at `pose`, near the rest posture.

    Raises:
        RobotError: the arm cannot reach the pose.
    """
    data = mujoco.MjData(model)
    site, hand = model.site("tcp").id, model.body("hand").id
    low, high = model.jnt_range[:JOINTS].T + np.array([[LIMIT_MARGIN_RAD], [-LIMIT_MARGIN_RAD]])
    position, quaternion = np.array(pose[:3]), np.array(pose[3:])
    quaternion /= np.linalg.norm(quaternion)
    rest = np.array(REST_Q)
    q = rest.copy()
    jacobian = np.zeros((6, model.nv))
    for _ in range(ITERATIONS):
        data.qpos[:JOINTS] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        w, x, y, z = data.xquat[hand].tolist()
        turn = half_turn(quaternion.tolist(), (x, y, z, w))
        error = np.concatenate([position - data.site_xpos[site], 2.0 * np.array(turn)])
        if np.abs(error).max() < TOLERANCE:
            return q
        arm = jacobian[:, :JOINTS]
        posture = POSTURE_GAIN * (rest - q)
        step = posture + arm.T @ np.linalg.solve(arm @ arm.T + DAMPING**2 * np.eye(6), error - arm @ posture)
        step *= min(1.0, LARGEST_STEP_RAD / np.abs(step).max())
        q = np.clip(q + step, low, high)
    numbers = ", ".join(f"{value:.4g}" for value in pose)
    missing_mm, missing_rad = 1e3 * math.hypot(*error[:3]), math.hypot(*error[3:])
    raise RobotError(
        f"pose ({numbers}): the arm cannot reach it (it stays {missing_mm:.0f} mm and {missing_rad:.2f} rad away); "
        "give a pose inside its workspace",
        status=422,
        field="pose",
    )
