"""The slow joint-space move to the rest posture: how fast the arm may go."""

import franky
import numpy as np

from robot_servers.backend import Floats
from serl_core.errors import RobotError

REST_Q = np.array((0.0, 0.0, 0.0, -1.9, 0.0, 1.9, np.pi / 4))  # the simulator's
SPEED_RAD_S = 0.7  # of the joint with the longest way, on average
TOOL_SHARE = 0.7  # of the tool's speed limit, on average: its peak stays below
ACCELERATION_SHARE = 0.3  # of what the arm can do, also of jerk
BRAKING_SHARE = 0.5  # when the move is cancelled
SHORTEST_S = 0.3
SAMPLES = 20  # of the way, to measure how far the tool goes


def rest_motion(robot: franky.Robot, state: franky.RobotState, speed_m_s: float) -> franky.JointMotion:
    """Return the move from `state` to the rest posture, with the tool below `speed_m_s`.

    Raises:
        RobotError: the reading is not finite.
    """
    start = np.asarray(state.q)
    way = REST_Q - start
    if not np.isfinite(way).all():
        raise RobotError("the joint angles are not finite; look at the arm, and recover it")
    length_m = tool_path_m(robot.model, state, start, way)
    duration_s = max(SHORTEST_S, float(np.abs(way).max()) / SPEED_RAD_S, length_m / (TOOL_SHARE * speed_m_s))
    fastest = np.asarray(robot.joint_velocity_limit.get())
    share = min(1.0, max(1e-3, float((np.abs(way) / (duration_s * fastest)).max())))
    factor = franky.RelativeDynamicsFactor(share, ACCELERATION_SHARE, ACCELERATION_SHARE)
    return franky.JointMotion(franky.JointState(REST_Q), relative_dynamics_factor=factor)


def tool_path_m(model: franky.Model, state: franky.RobotState, start: Floats, way: Floats) -> float:
    """Return the length of the tool's path when all joints go straight."""
    points = [
        model.pose(franky.Frame.EndEffector, start + way * (i / SAMPLES), state.F_T_EE, state.EE_T_K).translation
        for i in range(SAMPLES + 1)
    ]
    return float(np.linalg.norm(np.diff(np.array(points), axis=0), axis=1).sum())


def error_rad(q: Floats) -> float:
    """Return the largest distance of a joint from the rest posture."""
    return float(np.abs(REST_Q - q).max())
