"""Actions and poses: the policy acts in the tool's own axes, the robot takes targets in its base frame.

An action of 1 moves the target by `ActionConfig.translation_m` or `rotation_rad` from the *measured*
pose: p + R dp and R exp(dr). The measured pose, not the last target, so that a target never runs away
from an arm that is held up by contact.
"""

import numpy as np
from jaxtyping import Float

from serl_core.config import ActionConfig
from serl_core.geometry import apply_increment, increment

Pose = Float[np.ndarray, "7"]
TwistAction = Float[np.ndarray, "6"]


def action_to_target(action: TwistAction, measured: Pose, config: ActionConfig) -> Pose:
    """Return the target pose in the base frame for an action in the tool frame."""
    return apply_increment(measured, action * _scale(config))


def target_to_action(target: Pose, measured: Pose, config: ActionConfig) -> TwistAction:
    """Return the action that asks for `target`: the inverse of `action_to_target`. May exceed [-1, 1]."""
    return increment(measured, target) / _scale(config)


def _scale(config: ActionConfig) -> Float[np.ndarray, "6"]:
    return np.array([config.translation_m] * 3 + [config.rotation_rad] * 3)
