"""What one control step asks of the arm, and how that changes when the command does before the step is over."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from serl_core.config import TaskConfig
from serl_core.envs.frames import action_to_target, target_to_action
from serl_core.envs.safety import clip_target
from serl_core.types import ActionSpec

Pose = Float[np.ndarray, "7"]
Action = Float[np.ndarray, " a"]

TWIST, GRIPPER = "twist", "gripper"


class SetPoint(NamedTuple):
    """An action as the arm is told it."""

    target: Pose  # base frame, inside the task's box
    gripper: float | None  # 0 closed, 1 open; None without one
    executed: Action  # the action that asks for just that: less than what was asked for where the box clipped it


def set_point(action: Action, measured: Pose, config: TaskConfig) -> SetPoint:
    """Return what an action, seen from the measured pose, tells the arm."""
    spec = config.action.spec
    blocks = spec.split(np.clip(action, -1.0, 1.0))
    wished = action_to_target(blocks[TWIST].astype(np.float64), measured, config.action)
    target = clip_target(wished, config.box)
    if not np.array_equal(target, wished):
        blocks[TWIST] = target_to_action(target, measured, config.action)
    gripper = (1.0 + float(blocks[GRIPPER][0])) / 2.0 if GRIPPER in blocks else None
    return SetPoint(target, gripper, spec.join(blocks).astype(np.float32))


def revised(spec: ActionSpec, asked: Action, held: Action, command: Action, left: float) -> Action:
    """Return what a step asks for once its command changes: the mean over the step, weighted by time.

    A command of 1 that comes with a quarter of the step to go moves the target by a quarter, and the one that
    ceases then leaves three quarters: the target goes on from where it is on its way, and never back. So a step
    in which somebody takes over is one action after all, and its mean is what the arm was told in the end. The
    gripper's newest command counts whole.

    Args:
        spec: of all actions.
        asked: the mean as it would have been.
        held: the command that counted until now.
        command: the one that counts from now on.
        left: the fraction of the step that is to come, 0 to 1.
    """
    before, parts = spec.split(np.clip(held, -1.0, 1.0)), spec.split(np.clip(command, -1.0, 1.0))
    means = spec.split(np.clip(asked, -1.0, 1.0))
    for name, now in parts.items():
        means[name] = now if name == GRIPPER else means[name] + left * (now - before[name])
    return np.clip(spec.join(means), -1.0, 1.0).astype(np.float32)
