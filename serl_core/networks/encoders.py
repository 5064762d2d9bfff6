"""Turn an observation into the one vector that the policy and the critics read.

An encoder is a `flax.linen` module: observation -> features. The policy and the critic ensemble
take it as a field, so a task that sees images brings another encoder and no other heads.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from serl_core.errors import ConfigError
from serl_core.types import EnvSpec, Observation


class StateEncoder(nn.Module):
    """For tasks that learn from state: the proprioception as it is, which is already scaled. No parameters."""

    def __call__(self, observation: Observation) -> Float[Array, "*b f"]:
        """Return the features of `observation`."""
        return jnp.asarray(observation.proprio)


def encoder_for(spec: EnvSpec) -> nn.Module:
    """Return the encoder that reads all a task's observation has.

    Raises:
        ConfigError: the task has cameras, which no encoder here reads.
    """
    if spec.image_shapes or spec.feature_shapes:
        cameras = sorted({**spec.image_shapes, **spec.feature_shapes})
        raise ConfigError(
            f"ObservationConfig.cameras: the policy learns from proprioception alone, got {cameras}; leave it empty"
        )
    return StateEncoder()
