"""What a push of a SpaceMouse means: the way from the puck's axes to the tool's.

The puck's own axes, for a person who has it before them with the cable leading away: +x to the right, +y away from
the person, +z up. Turns are right-handed about them: about +x the far edge rises (the cap tilts towards the person),
about +y the right edge sinks, about +z counter-clockwise seen from above.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float

from actors.teleop.puck_buttons import FIRST, LAST
from serl_core.errors import ConfigError
from serl_core.geometry import rotation_vector_to_quaternion, twist_from_local, twist_to_local

MAX_AGE_S = 0.2  # SAFETY 1.5: older motion is none


class OperatorSide(Enum):
    """Where the person stands, seen along the arm's own x axis, which points forward, away from its base."""

    BEHIND = "behind"  # at the base, looking the way the arm does
    FRONT = "front"  # looking at the arm
    LEFT = "left"  # on the side of the base's +y
    RIGHT = "right"

    @property
    def looks_deg(self) -> float:
        """Which way the person looks: degrees from the base's +x, counter-clockwise seen from above."""
        return {"behind": 0.0, "front": 180.0, "left": -90.0, "right": 90.0}[self.value]


@dataclass(frozen=True, kw_only=True)
class SpaceMouseConfig:
    """Which SpaceMouse, and what it means."""

    devices: tuple[str, ...] = ()
    """Serial number or path of each arm's device; the one that is connected if not given."""
    operator: Annotated[OperatorSide, tyro.conf.EnumChoicesFromValues] = OperatorSide.FRONT
    """On which side of the arm the person stands."""
    turn_deg: float = 0.0
    """How far the device is turned on its table, counter-clockwise seen from above."""
    dead_zone: float = 0.1
    """Of each axis, as a fraction of its travel: what is below counts as nothing."""
    translation_scale: float = 1.0
    """What a full shift asks for, as a fraction of the task's largest."""
    rotation_scale: float = 1.0
    """What a full turn asks for, as a fraction of the task's largest; 0 locks the orientation."""
    gripper_buttons: tuple[str, ...] = (FIRST,)
    """Each press closes the gripper, or opens it again."""
    hand_back_buttons: tuple[str, ...] = (LAST,)
    """End the person's turn at once; while demonstrations are recorded, throw the present one away."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_zone <= 0.9:
            raise ConfigError(f"SpaceMouseConfig.dead_zone: must be 0 to 0.9 of the travel, got {self.dead_zone}")
        for name in ("translation_scale", "rotation_scale"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"SpaceMouseConfig.{name}: must be 0 to 1, got {getattr(self, name)}")
        if not math.isfinite(self.turn_deg):
            raise ConfigError(f"SpaceMouseConfig.turn_deg: must be finite, got {self.turn_deg}")
        if len(set(self.devices)) != len(self.devices):
            raise ConfigError(f"SpaceMouseConfig.devices: each arm needs one of its own, got {self.devices}")
        if both := set(self.gripper_buttons) & set(self.hand_back_buttons):
            raise ConfigError(
                f"SpaceMouseConfig: {sorted(both)} cannot both move the gripper and hand back; give one of "
                "gripper_buttons and hand_back_buttons other buttons"
            )


def beyond_dead_zone(deflection: Float[np.ndarray, "6"], dead_zone: float) -> Float[np.ndarray, "6"]:
    """Return the deflection with nothing below the dead zone, growing from 0 at its edge to 1 at full travel."""
    size = np.clip((np.abs(deflection) - dead_zone) / (1.0 - dead_zone), 0.0, 1.0)
    return np.sign(deflection) * size


def tool_twist(
    deflection: Float[np.ndarray, "6"], tool: Float[np.ndarray, "4"], config: SpaceMouseConfig
) -> Float[np.ndarray, "6"]:
    """Return what a deflection asks of the tool, in the tool's axes and in [-1, 1], 1 being the task's largest action.

    A push moves the tool the way the person sees it pushed, however the tool is turned.

    Args:
        tool: rotation of the tool in the arm's base frame, xyzw.
    """
    scale = np.repeat([config.translation_scale, config.rotation_scale], 3)
    # The puck's +y lies along the person's look, and +y is a quarter turn from +x.
    turn_rad = math.radians(config.operator.looks_deg + config.turn_deg - 90.0)
    puck = rotation_vector_to_quaternion(np.array([0.0, 0.0, turn_rad]))
    wished = twist_from_local(puck, scale * beyond_dead_zone(deflection, config.dead_zone))
    halves = twist_to_local(tool, wished).reshape(2, 3)
    # A diagonal can be longer than the range in the tool's axes: shorten it, for a clip would bend it.
    longest = np.abs(halves).max(axis=1, keepdims=True)
    return (halves / np.maximum(longest, 1.0)).reshape(6)
