"""Where an episode starts and how the arm gets there: a reset has arrived, or it raises."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from serl_core.config import ResetConfig, TaskConfig
from serl_core.errors import ResetError, RobotAway, RobotError, RobotFault
from serl_core.geometry import distance, turn_about_base_z
from serl_core.robots.interface import Robot
from serl_core.robots.messages import JOINT_LIMIT, RobotState, Vector7

LOOSEN_M = 0.005

logger = logging.getLogger(__name__)

Pose = Float[np.ndarray, "7"]

# Roberts' R4 sequence: powers of the inverse of the root of x^5 = x + 1. Evenly spread for every
# length, and never on the points that a random stream draws.
_R4 = 1.1673039782614187 ** -np.arange(1.0, 5.0)


def start_pose(config: ResetConfig, offset: Float[np.ndarray, "4"]) -> Pose:
    """Return the start pose at `offset`: x, y, z and turn about z, each in [-1, 1] of its range."""
    pose = turn_about_base_z(np.array(config.pose), float(offset[3]) * config.randomise_rz_rad)
    return np.concatenate([pose[:3] + offset[:3] * config.randomise_m, pose[3:]])


def random_start(config: ResetConfig, rng: np.random.Generator) -> Pose:
    """Return a start pose drawn uniformly from the config's range."""
    return start_pose(config, rng.uniform(-1.0, 1.0, 4))


def start_grid(config: ResetConfig, count: int, *, skip: int = 0) -> list[Pose]:
    """Return `count` start poses spread evenly over the range: the same on every call.

    Args:
        skip: leave out that many first; for a second grid that shares no pose with the first.
    """
    offsets = (0.5 + np.arange(skip + 1, skip + count + 1)[:, np.newaxis] * _R4) % 1.0
    return [start_pose(config, 2.0 * offset - 1.0) for offset in offsets]


def reset_arm(robot: Robot, task: TaskConfig, start: Pose, *, seed: int | None = None) -> RobotState:
    """Bring the arm to `start` and return its state there, ready for the policy.

    Stiff and precise on the way, compliant when it has arrived. A tool that was turned so far that the way back drives
    a joint into its limit goes by the rest posture, in joint space. In simulation `is_teleport` puts it there at once.

    Args:
        seed: begins the simulated scene anew before the arm moves; a real arm has none.

    Raises:
        ResetError: not within the tolerance after every try.
        RobotFault: the robot is stopped or in a fault.
        RobotAway: it does not answer.
    """
    pose = as_vector7(start)
    if task.reset.is_teleport:
        robot.set_impedance(task.compliance)
        return robot.sim_reset(seed=seed, pose=pose)
    robot.set_impedance(task.precision)
    if seed is not None and robot.health().is_simulated:
        robot.sim_reset(seed=seed)
    miss: _Miss | None = None
    for attempt in range(1, task.reset.tries + 1):
        if miss is not None:
            _loosen(robot, task.reset)
            if miss.cause == JOINT_LIMIT:
                _unwind(robot, task.reset)
        state, miss = _try_move(robot, task.reset, pose)
        if miss is None:
            robot.set_impedance(task.compliance)
            return state
        logger.warning("reset try %d of %d: %s", attempt, task.reset.tries, miss.detail)
    robot.set_impedance(task.compliance)
    assert miss is not None
    raise ResetError(
        f"reset of task {task.name!r}: not at the start pose after {task.reset.tries} tries, {miss.detail}; "
        "free the arm's way, or widen ResetConfig.tolerance_m and tolerance_rad"
    )


class _Miss(NamedTuple):
    """What is wrong after a try."""

    detail: str
    cause: str = ""


def _try_move(robot: Robot, config: ResetConfig, pose: Vector7) -> tuple[RobotState, _Miss | None]:
    """Return the state after one try and what is wrong with it; None when it has arrived."""
    state = robot.state()
    try:
        if config.lift_to_z_m is not None and state.tcp_pose[2] < config.lift_to_z_m:
            x, y, _, qx, qy, qz, qw = state.tcp_pose
            state = robot.move((x, y, config.lift_to_z_m, qx, qy, qz, qw))
        state = robot.move(pose)
    except (RobotFault, RobotAway):
        raise
    except RobotError as error:
        return state, _Miss(str(error), error.cause)
    apart_m, apart_rad = distance(np.array(pose), np.array(state.tcp_pose))
    if apart_m > config.tolerance_m or apart_rad > config.tolerance_rad:
        return state, _Miss(
            f"{1e3 * apart_m:.1f} mm and {apart_rad:.3f} rad away where "
            f"{1e3 * config.tolerance_m:.1f} mm and {config.tolerance_rad:.3f} rad are allowed"
        )
    return state, None


def _loosen(robot: Robot, config: ResetConfig) -> None:
    """Pull up and to each side in turn until the arm comes up: what it holds may be wedged."""
    if config.lift_to_z_m is None:
        return
    for dx, dy in ((LOOSEN_M, 0.0), (-LOOSEN_M, 0.0), (0.0, LOOSEN_M), (0.0, -LOOSEN_M)):
        x, y, z, qx, qy, qz, qw = robot.state().tcp_pose
        if _is_up(z, config):
            return
        _attempt(robot.move, (x + dx, y + dy, config.lift_to_z_m, qx, qy, qz, qw))


def _unwind(robot: Robot, config: ResetConfig) -> None:
    """Lead the joints of a lifted arm to their rest posture: the straight way back leads through a joint's limit."""
    if _is_up(robot.state().tcp_pose[2], config):
        logger.warning("the arm goes to its rest posture first")
        _attempt(robot.joint_reset)


def _is_up(z_m: float, config: ResetConfig) -> bool:
    return config.lift_to_z_m is not None and z_m > config.lift_to_z_m - config.tolerance_m


def _attempt(motion: Callable[..., RobotState], *arguments: Vector7) -> None:
    try:
        motion(*arguments)
    except (RobotFault, RobotAway):
        raise
    except RobotError as error:
        logger.info("not freed: %s", error)


def as_vector7(pose: Pose) -> Vector7:
    """Return a pose as the plain floats that messages carry."""
    x, y, z, qx, qy, qz, qw = pose.tolist()
    return x, y, z, qx, qy, qz, qw
