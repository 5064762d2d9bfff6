"""One control step on a robot that may refuse a target: what the environment and the recorder of frames do alike."""

import logging
from collections.abc import Callable

from serl_core.errors import RobotError, RobotFault
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState, Vector7

logger = logging.getLogger(__name__)

UNPROCESSABLE = 422  # HTTP: understood, and not allowed


def step_or_stay(
    robot: Robot,
    target: Vector7,
    reply_after_s: float,
    gripper: float | None = None,
    *,
    is_lockstep: bool,
    sleep: Callable[[float], None],
) -> RobotState:
    """Send a target and return the state one period later.

    One that the robot refuses, as beyond a joint's limit, makes the arm stay where it is now; if that is
    refused too, the robot's watchdog holds it.

    Raises:
        RobotFault: the robot is stopped or in a fault.
        RobotError: it refuses for any other reason, or is gone.
    """
    state = _step(robot, target, reply_after_s, gripper)
    if state is None:
        state = _step(robot, robot.state().tcp_pose, reply_after_s, gripper)
    if state is None:
        if not is_lockstep:
            sleep(reply_after_s)
        state = robot.state()
    return state


def _step(robot: Robot, target: Vector7, reply_after_s: float, gripper: float | None) -> RobotState | None:
    """Return the state one period after a target; None if the robot does not allow it."""
    try:
        return robot.step(target, reply_after_s, gripper)
    except RobotFault:
        raise
    except RobotError as refusal:
        if refusal.status != UNPROCESSABLE:
            raise
        logger.warning("the robot refused a target, the arm stays where it is: %s", refusal)
        return None
