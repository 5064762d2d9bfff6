"""An observation in the words of Gymnasium."""

from typing import Any

import numpy as np
from gymnasium import spaces

from serl_core.config import ObservationConfig
from serl_core.envs.observations import PROPRIO_BOUND
from serl_core.types import Observation

GymObservation = dict[str, Any]  # an Observation's non-empty fields by name


def observation_spaces(config: ObservationConfig) -> dict[str, Any]:
    """Return the spaces of an observation's fields."""
    proprio = spaces.Box(-PROPRIO_BOUND, PROPRIO_BOUND, (config.proprio_size,), np.float32)
    images: dict[str, Any] = {name: spaces.Box(0, 255, shape, np.uint8) for name, shape in config.image_shapes.items()}
    return {"proprio": proprio, "images": spaces.Dict(images)} if images else {"proprio": proprio}


def as_gym(observation: Observation) -> GymObservation:
    """Return an observation's fields that are not empty."""
    gym_observation: GymObservation = {"proprio": observation.proprio}
    if observation.images:
        gym_observation["images"] = observation.images
    return gym_observation
