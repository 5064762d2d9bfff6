"""One reading of the arm, in the words of the messages."""

import math
from typing import NamedTuple

import franky
import numpy as np

from robot_servers.backend import Floats, Measured
from robot_servers.rotations import rotated
from serl_core.robots.messages import Vector7


class Reading(NamedTuple):
    """What the arm said at one time; all of it is from the same packet."""

    stamp_s: float  # this computer's monotonic clock when it came
    measured: Measured
    pose: Vector7
    wrench: Floats  # [6] that the world exerts on the robot, base frame, at the tool
    state: franky.RobotState


def read(robot: franky.Robot, state: franky.RobotState, stamp_s: float) -> Reading:
    """Return the reading in `state`.

    libfranka's O_F_ext_hat_K counts what the robot exerts on the world as positive, so its sign is turned. It acts at
    the stiffness frame, which `connection.configure` puts at the tool.
    """
    pose = state.O_T_EE
    position, quaternion = pose.translation, pose.quaternion
    x, y, z, w = quaternion.tolist()
    norm = math.sqrt(x * x + y * y + z * z + w * w)  # the arm sends the matrix in single precision
    if norm > 0.0:
        quaternion = quaternion / norm
    px, py, pz = position.tolist()
    qx, qy, qz, qw = quaternion.tolist()
    jacobian = robot.model.zero_jacobian(franky.Frame.EndEffector, state)
    return Reading(
        stamp_s,
        Measured(position, quaternion, state.q, state.dq, jacobian),
        (px, py, pz, qx, qy, qz, qw),
        -np.asarray(state.O_F_ext_hat_K),
        state,
    )


def acceleration_for(robot: franky.Robot, reading: Reading, wrench: Floats) -> franky.TwistAcceleration:
    """Return the acceleration by whose feed-forward franky's law pushes with `wrench` (tool frame [6]).

    The law adds J^T Lambda a with Lambda = (J M^-1 J^T)^-1 (Khatib 1987): a = J M^-1 J^T w makes that J^T w. A wrench
    of its own the reference has not.
    """
    tool, push = reading.measured.quaternion.tolist(), wrench.tolist()
    base = np.array((*rotated(tool, push[:3]), *rotated(tool, push[3:])))
    jacobian = reading.measured.jacobian
    acceleration = jacobian @ np.linalg.solve(robot.model.mass(reading.state), jacobian.T @ base)
    return franky.TwistAcceleration(acceleration[:3], acceleration[3:])
