"""franka_msgs/FrankaRobotState in the words of the messages."""

import math
from typing import Any, NamedTuple

import numpy as np

from robot_servers.arm_parts.kinematics_panda import jacobian
from robot_servers.arm_parts.reflex_cause import reflex_cause
from robot_servers.backend import Floats, Measured
from serl_core.robots.messages import Vector6, Vector7

REFLEX, USER_STOPPED, NOT_CONTROLLED = "reflex", "user_stopped", "not_controlled"

# robot_mode
_IDLE, _MOVE, _REFLEX, _USER_STOPPED = 1, 2, 4, 5


class Reading(NamedTuple):
    """One reading; all of it is from the same message."""

    stamp_s: float  # the arm's own clock
    measured: Measured
    pose: Vector7
    wrench: Vector6  # that the world exerts on the robot, base frame
    joint_names: list[str]
    trouble: str | None  # why the arm does not obey


def read(state: Any) -> Reading:
    """Return the reading in a FrankaRobotState.

    The Jacobian is that of the point which the arm itself calls its end effector. The arm counts what it exerts on
    the world as positive in o_f_ext_hat_k, so its sign is turned.
    """
    position, orientation = state.o_t_ee.pose.position, state.o_t_ee.pose.orientation
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    norm = float(np.linalg.norm(quaternion))
    quaternion = quaternion / norm if norm > 0.5 else np.full(4, np.nan)
    tcp_m = np.array([position.x, position.y, position.z])
    joints = state.measured_joint_state
    q, dq = np.array(joints.position, dtype=float), np.array(joints.velocity, dtype=float)
    force, torque = state.o_f_ext_hat_k.wrench.force, state.o_f_ext_hat_k.wrench.torque
    qx, qy, qz, qw = quaternion.tolist()
    return Reading(
        float(state.time),
        Measured(tcp_m, quaternion, q, dq, _jacobian(q, tcp_m)),
        (position.x, position.y, position.z, qx, qy, qz, qw),
        (-force.x, -force.y, -force.z, -torque.x, -torque.y, -torque.z),
        list(joints.name),
        _trouble(state),
    )


def _jacobian(q: Floats, tcp_m: Floats) -> Floats:
    angles = q.tolist()
    if len(angles) != 7 or not math.isfinite(sum(angles) + float(tcp_m.sum())):
        return np.full((6, 7), np.nan)  # for the kernel to judge
    return jacobian(angles, tcp_m)


def _trouble(state: Any) -> str | None:
    mode = int(state.robot_mode)
    if mode == _USER_STOPPED:
        return USER_STOPPED
    if mode == _REFLEX or errors(state):
        return reflex_cause(" ".join(errors(state)))
    return None if mode in (_IDLE, _MOVE) else NOT_CONTROLLED


def errors(state: Any) -> list[str]:
    """Return the names of the arm's present errors."""
    present = state.current_errors
    names = present.get_fields_and_field_types() if hasattr(present, "get_fields_and_field_types") else vars(present)
    return [name for name in names if getattr(present, name) is True]
