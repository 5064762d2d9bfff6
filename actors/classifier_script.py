"""What the scripted human does in simulation to collect frames for a reward classifier: successes, and near misses.

The near misses are those that a learning policy finds: hovering close above the target, pressing beside
it, held up on its edge, inserted half way, lifted out again. And because such a policy searches for
whatever is rewarded, frames from everywhere that it may go: a classifier is worth nothing where it has
seen nothing.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from serl_core.envs.frames import action_to_target, target_to_action
from serl_core.envs.resets import start_pose
from serl_core.envs.task import Task
from serl_core.errors import ConfigError
from serl_core.geometry import apply_increment
from serl_core.robots.messages import RobotState

Pose = Float[np.ndarray, "7"]
Now = Callable[[], RobotState]

EXPERT_NOISE, PROBE_NOISE = 0.05, 0.15  # standard deviation added to each number of an action
WIGGLE_M, WIGGLE_RAD = 0.003, 0.03  # while the task is done: pulls and pushes that mostly leave it done
TILT_RAD = 0.1  # standard deviation of the tilt of poses from anywhere
INSERTION_STEPS, DONE_STEPS, PROBE_STEPS = 40, 8, 8


def near_start(task: Task, random: np.random.Generator) -> Pose:
    """Return a start pose nearer to the target than most of the task's, and mostly lower; it need not be free."""
    pose = start_pose(task.config.reset, random.uniform(-0.3, 0.3, 4))
    height_m = pose[2] - task.config.target_pose[2]
    pose[2] -= random.uniform(0.0, 0.75) * height_m
    return pose


def anywhere(task: Task, random: np.random.Generator) -> Pose:
    """Return a pose from the whole of the task's box, turned and tilted at random; it need not be free."""
    box, reset = task.config.box, task.config.reset
    turn = np.append(random.normal(0.0, TILT_RAD, 2), random.uniform(-2.0, 2.0) * reset.randomise_rz_rad)
    pose = apply_increment(np.array(task.config.target_pose), np.concatenate([np.zeros(3), turn]))
    pose[:3] = random.uniform(box.low_m, box.high_m)
    return pose


def success_script(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Yield targets that do the task, keep it done for a moment in many poses, and undo it again.

    Args:
        now: returns the arm's state after the last target.

    Raises:
        ConfigError: the task has no expert.
    """
    yield from _insert(task, now, random)
    if not _is_success(now()):
        return
    done = np.array(now().tcp_pose)
    for _ in range(DONE_STEPS):
        wiggle = random.uniform(-1.0, 1.0, 6) * ([WIGGLE_M] * 3 + [WIGGLE_RAD] * 3)
        wiggle[2] = random.uniform(-0.3, 1.0) * WIGGLE_M  # rather pressed than pulled
        yield _towards(task, now, apply_increment(done, wiggle), random, noise=0.0)
    lift_m = random.uniform(0.002, 0.025)
    for _ in range(4):
        yield _towards(task, now, done + [0.0, 0.0, lift_m, 0.0, 0.0, 0.0, 0.0], random)


def near_miss_script(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Yield targets that come close to doing the task, and do not. Raises as `success_script` does."""
    probes = (_hover, _press_beside, _press_beside, _stop_short, _wander)
    for i in random.permutation(len(probes))[:2]:
        yield from probes[i](task, now, random)


def roaming_script(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Yield targets of a policy that knows nothing, wherever it is."""
    yield from _wander(task, now, random)


def _insert(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    for _ in range(INSERTION_STEPS):
        if _is_success(now()):
            return
        yield _expert_target(task, now, random)


def _stop_short(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Let the expert come as near as 2 to 15 mm along the base's z axis, and stay there."""
    floor_m = task.config.target_pose[2] + random.uniform(0.002, 0.015)
    for _ in range(2 * PROBE_STEPS):
        target = _expert_target(task, now, random)
        target[2] = max(target[2], floor_m)
        yield target


def _hover(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Go to a random pose at most 25 mm above where the arm is held up, and 10 mm off sideways."""
    goal = _beside(task, random, np.abs(random.normal(0.0, 0.005)), random.uniform(0.005, 0.04))
    for _ in range(PROBE_STEPS):
        yield _towards(task, now, goal, random)


def _press_beside(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Go down beside the target, from where it is held up on the edge to anywhere near, and press."""
    away_m = random.uniform(0.0015, 0.006) if random.random() < 0.4 else random.uniform(0.006, 0.04)
    above = _beside(task, random, away_m, 0.022)
    below = above - [0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 0.0]
    for step in range(2 * PROBE_STEPS):
        yield _towards(task, now, above if step < PROBE_STEPS // 2 else below, random)


def _wander(task: Task, now: Now, random: np.random.Generator) -> Iterator[Pose]:
    """Drift about as a policy does that knows nothing: each of two random actions for a while."""
    for _ in range(2):
        action = random.uniform(-1.0, 1.0, 6)
        for _ in range(PROBE_STEPS):
            yield action_to_target(action, np.array(now().tcp_pose), task.config.action)


def _beside(task: Task, random: np.random.Generator, away_m: float, above_m: float) -> Pose:
    """Return the target pose moved sideways and up, and turned a little about each axis."""
    angle = random.uniform(0.0, 2 * np.pi)
    turn = random.normal(0.0, 0.03, 3) + [0.0, 0.0, random.uniform(-1.0, 1.0) * task.config.reset.randomise_rz_rad]
    pose = apply_increment(np.array(task.config.target_pose), np.concatenate([np.zeros(3), turn]))
    return pose + [away_m * np.cos(angle), away_m * np.sin(angle), above_m, 0.0, 0.0, 0.0, 0.0]


def _expert_target(task: Task, now: Now, random: np.random.Generator) -> Pose:
    if task.expert is None:
        raise ConfigError(
            f"task {task.config.name!r}: has no scripted expert; give it Task(expert=...), or label by key"
        )
    state = now()
    twist = task.config.action.spec.split(task.expert(state))["twist"]
    action = twist + EXPERT_NOISE * random.standard_normal(6)
    return action_to_target(np.clip(action, -1.0, 1.0), np.array(state.tcp_pose), task.config.action)


def _towards(task: Task, now: Now, goal: Pose, random: np.random.Generator, *, noise: float = PROBE_NOISE) -> Pose:
    """Return the target one step of the policy's size nearer to `goal`."""
    measured = np.array(now().tcp_pose)
    action = target_to_action(goal, measured, task.config.action) + noise * random.standard_normal(6)
    return action_to_target(np.clip(action, -1.0, 1.0), measured, task.config.action)


def _is_success(state: RobotState) -> bool:
    return state.truth is not None and state.truth.is_success
