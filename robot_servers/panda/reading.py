"""What a Panda says in one packet, in the words of the messages, and what may be wrong with it."""

import math
from typing import NamedTuple

import numpy as np
from panda_py import libfranka

from robot_servers.arm_parts.kinematics_panda import JOINTS
from robot_servers.arm_parts.reflex_cause import reflex_cause
from robot_servers.backend import Measured
from serl_core.geometry import matrix_to_quaternion
from serl_core.robots.messages import Vector6, Vector7

REFLEX, USER_STOPPED, NOT_CONTROLLED = "reflex", "user_stopped", "not_controlled"


class PandaReading(NamedTuple):
    """One reading; all of it is from the same packet."""

    stamp_s: float  # the arm's own clock
    measured: Measured
    pose: Vector7
    wrench: Vector6  # that the world exerts on the robot, base frame


def read(state: libfranka.RobotState, model: libfranka.Model) -> PandaReading:
    """Return the reading in `state`; a pose that is no pose comes back as NaN, for the kernel to judge.

    libfranka's O_F_ext_hat_K counts what the robot exerts on the world as positive, so its sign is turned.
    """
    matrix = np.array(state.O_T_EE).reshape(4, 4).T  # libfranka's matrices are column by column
    rotation = matrix[:3, :3]
    is_rotation = math.isfinite(float(matrix.sum())) and float(np.linalg.det(rotation)) > 0.5
    quaternion = matrix_to_quaternion(rotation) if is_rotation else np.full(4, np.nan)
    position = matrix[:3, 3].copy()
    jacobian = np.array(model.zero_jacobian(libfranka.Frame.kEndEffector, state)).reshape(JOINTS, 6).T
    px, py, pz = position.tolist()
    qx, qy, qz, qw = quaternion.tolist()
    fx, fy, fz, tx, ty, tz = state.O_F_ext_hat_K
    return PandaReading(
        state.time.to_sec(),
        Measured(position, quaternion, np.array(state.q), np.array(state.dq), jacobian),
        (px, py, pz, qx, qy, qz, qw),
        (-fx, -fy, -fz, -tx, -ty, -tz),
    )


def trouble(state: libfranka.RobotState) -> str | None:
    """Return why the arm does not obey, or None while it idles or moves as told."""
    mode = state.robot_mode
    if mode == libfranka.RobotMode.kUserStopped:
        return USER_STOPPED
    if mode == libfranka.RobotMode.kReflex or bool(state.current_errors):
        return reflex_cause(repr(state.current_errors))
    if mode in (libfranka.RobotMode.kIdle, libfranka.RobotMode.kMove):
        return None
    return NOT_CONTROLLED  # guiding, in recovery, or its joints are locked
