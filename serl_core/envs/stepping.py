"""One control step on a robot that may refuse a target: what the environment and the recorder of frames do alike."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from serl_core.clock import Clock
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.interface import Robot
from serl_core.robots.messages import RobotState, Vector7
from serl_core.robots.problems import is_late

logger = logging.getLogger(__name__)

UNPROCESSABLE = 422  # HTTP: understood, and not allowed
REVISE_EVERY_S = 0.01
SEND_EVERY_S = 0.02  # a robot's server takes 100 commands a second
HELD_UP_S = 0.28  # since the last command: after 0.3 s the robot's watchdog holds the arm
LAST_S = 0.02  # before the tick, the robot's server has the rest of the waiting
ROUNDING_S = 1e-4  # of clocks


class Goal(NamedTuple):
    """Where the arm and its gripper are to be."""

    target: Vector7  # base frame
    gripper: float | None = None  # 0 closed, 1 open; None: as it is


Revise = Callable[[float], Goal | None]
"""The fraction of the step that is to come -> a new goal, or None to keep the present one."""


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

    One that the robot refuses, as beyond a joint's limit or because it came late, makes the arm stay where it is now;
    if that is refused too, the robot's watchdog holds it.

    Raises:
        RobotFault: the robot is stopped or in a fault.
        RobotError: it refuses for any other reason, or is gone.
    """
    state = _step(robot, target, reply_after_s, gripper)
    if isinstance(state, RobotError):
        still_wanted = None if is_late(state) else gripper
        state = _step(robot, robot.state().tcp_pose, reply_after_s, still_wanted)
    if isinstance(state, RobotError):
        if not is_lockstep:
            sleep(reply_after_s)
        state = robot.state()
    return state


def step_with_revisions(
    robot: Robot, goal: Goal, period_s: float, revise: Revise, *, now: Clock, sleep: Callable[[float], None]
) -> RobotState:
    """Send a goal at once, and each new one that `revise` gives in real time; return the state after `period_s`.

    It is asked every 10 ms or so; the robot is told at most every 20 ms, and of no change in a period below 40 ms.
    What it raises ends the step there, with the last goal in force. The robot itself does the last of the waiting, so
    that the state is of the tick however roughly this machine sleeps. A step that this machine has slept through ends
    with the arm told to stay where it is: its watchdog may hold it by now, and must not be ended by an old goal.

    Raises:
        RobotFault: the robot is stopped or in a fault.
        RobotError: it refuses for any other reason than the target, or is gone.
    """
    began_s = sent_s = now()
    asking_s = period_s - LAST_S
    times = round(asking_s / REVISE_EVERY_S) if asking_s > SEND_EVERY_S - ROUNDING_S else 0
    waiting: Goal | None = None
    if times:
        step_or_stay(robot, goal.target, 0.0, goal.gripper, is_lockstep=False, sleep=sleep)
    for k in range(1, times + 1):
        if (early_s := began_s + k * asking_s / times - now()) > 0.0:
            sleep(early_s)
        waiting = revise(max(1.0 - (now() - began_s) / period_s, 0.0)) or waiting
        goal = waiting or goal
        if now() - sent_s > HELD_UP_S:
            break
        if waiting is not None and k < times and now() - sent_s > SEND_EVERY_S - ROUNDING_S:
            step_or_stay(robot, goal.target, 0.0, goal.gripper, is_lockstep=False, sleep=sleep)
            sent_s, waiting = now(), None
    if now() - sent_s > HELD_UP_S:
        logger.warning("this program was held up for %.2f s in mid-step: the arm stays where it is", now() - sent_s)
        goal = Goal(robot.state().tcp_pose)
    left_s = max(began_s + period_s - now(), 0.0)
    return step_or_stay(robot, goal.target, left_s, goal.gripper, is_lockstep=False, sleep=sleep)


def _step(robot: Robot, target: Vector7, reply_after_s: float, gripper: float | None) -> RobotState | RobotError:
    """Return the state one period after a target, or why the robot does not take this one."""
    try:
        return robot.step(target, reply_after_s, gripper)
    except RobotFault:
        raise
    except RobotError as refusal:
        if refusal.status != UNPROCESSABLE and not is_late(refusal):
            raise
        logger.warning("the robot refused a target, the arm stays where it is: %s", refusal)
        return refusal
