"""Poses as a person reads and types them: a line to paste into a task's config, and small steps from a pose."""

import math
from enum import Enum

import numpy as np

from serl_core.envs.resets import as_vector7
from serl_core.geometry import compose, euler_to_quaternion, quaternion_to_matrix, tilt_rad
from serl_core.robots.messages import RobotState, Vector6, Vector7


class Frame(Enum):
    """In which axes a step is given."""

    BASE = "base"  # of the robot: x away from it, y to its left, z up
    TOOL = "tool"  # of the tool, which points along its z


def stepped(pose: Vector7, step: Vector6, frame: Frame) -> Vector7:
    """Return `pose` (base frame) moved by `step`: x y z in m, then roll, pitch, yaw in rad about fixed axes.

    The tool turns about its own centre point in either frame.
    """
    here = np.array(pose)
    turn = euler_to_quaternion(np.array(step[3:]))
    if frame is Frame.TOOL:
        return as_vector7(compose(here, np.concatenate([step[:3], turn])))
    origin = np.zeros(3)
    turned = compose(np.concatenate([origin, turn]), np.concatenate([origin, here[3:]]))
    return as_vector7(np.concatenate([here[:3] + step[:3], turned[3:]]))


def tool_yaw_rad(pose: Vector7) -> float:
    """Return how far the tool is turned about the base's vertical axis: 0 where its x axis points along the base's."""
    tool_x = quaternion_to_matrix(np.array(pose[3:]))[:, 0]
    return float(np.arctan2(tool_x[1], tool_x[0]))


def pose_line(pose: Vector7) -> str:
    """Return a pose as a line of Python, to the micrometre and the microradian."""
    return "(" + ", ".join(str(round(value, 6) + 0.0) for value in pose) + ")"


def where(state: RobotState) -> str:
    """Return where the arm is: its pose for a task's config, and what a person wants to know beside it."""
    pose = state.tcp_pose
    yaw, tilt = math.degrees(tool_yaw_rad(pose)), math.degrees(float(tilt_rad(np.array(pose[3:]))))
    latched = f", latched by {state.fault!r}" if state.fault is not None else ""
    return "\n".join(
        [
            f"pose = {pose_line(pose)}  # x y z in m, qx qy qz qw, base frame",
            "# where the task is done:    TaskConfig(target_pose=pose)",
            "# where its episodes start:  ResetConfig(pose=pose)",
            f"# tool: yaw {_numbers((yaw,), 2)} degrees about the base's z axis, {tilt:.2f} degrees from straight down",
            f"# q: {_numbers(state.q, 4)} rad",
            f"# wrench: {_numbers(state.tcp_wrench[:3], 1)} N, {_numbers(state.tcp_wrench[3:], 2)} Nm, "
            "what the world exerts on the tool, base frame",
            f"# gripper: {state.gripper:.2f} of fully open; mode: {state.mode.value}{latched}",
        ]
    )


def _numbers(values: tuple[float, ...], digits: int) -> str:
    return ", ".join(f"{round(value, digits) + 0.0:.{digits}f}" for value in values)  # + 0.0: no -0.00
