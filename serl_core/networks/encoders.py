"""Turn an observation into the one vector that the policy and the critics read.

An encoder is a `flax.linen` module: observation -> vector. The critics train it; the policy reads it
through a stop-gradient (HIL-SERL, REFERENCE section 1). The frozen network that turned the images
into features before is not part of it: `networks/frozen.py`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from serl_core.errors import ConfigError
from serl_core.networks.heads import LayerNorm
from serl_core.types import EnvSpec, Observation

EMBEDDINGS = 8  # spatial embeddings per channel
IMAGE_UNITS = 256
PROPRIO_UNITS = 64


class StateEncoder(nn.Module):
    """For tasks that learn from state: the proprioception as it is, which is already scaled. No parameters."""

    def __call__(self, observation: Observation) -> Float[Array, "*b f"]:
        """Return the features of `observation`."""
        return jnp.asarray(observation.proprio)


class ImageEncoder(nn.Module):
    """Spatial embedding, dense layer, LayerNorm and tanh per image; a smaller dense one for the proprioception.

    Reads `Observation.features`, [*b h w c] per image.
    """

    images: tuple[str, ...]

    @nn.compact
    def __call__(self, observation: Observation) -> Float[Array, "*b f"]:
        """Return the parts, concatenated."""
        parts = []
        for name in self.images:
            embedded = SpatialEmbedding(EMBEDDINGS, name=f"embedding_{name}")(jnp.asarray(observation.features[name]))
            parts.append(_Layer(IMAGE_UNITS, name=f"image_{name}")(embedded))
        parts.append(_Layer(PROPRIO_UNITS, name="proprio")(jnp.asarray(observation.proprio)))
        return jnp.concatenate(parts, axis=-1)


class SpatialEmbedding(nn.Module):
    """Each channel's weighted sums over the picture, with learned weights per place, channel and sum."""

    embeddings: int

    @nn.compact
    def __call__(self, features: Float[Array, "*b h w c"]) -> Float[Array, "*b e"]:
        """Return [*b, c * embeddings]."""
        *batch, height, width, channels = features.shape
        kernel = self.param(
            "kernel", nn.initializers.normal(0.05), (height * width, channels, self.embeddings), jnp.float32
        )
        flat = jnp.asarray(features, jnp.float32).reshape(-1, height * width, channels)
        # Channels first: XLA's CPU back end then multiplies one matrix per channel, three times as fast.
        embedded = jnp.einsum("cbp,cpe->cbe", flat.transpose(2, 0, 1), kernel.transpose(1, 0, 2))
        return embedded.transpose(1, 0, 2).reshape(*batch, channels * self.embeddings)


class _Layer(nn.Module):
    """Dense, LayerNorm, tanh."""

    units: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        return nn.tanh(LayerNorm(name="norm")(nn.Dense(self.units, name="dense")(x)))


def encoder_for(spec: EnvSpec) -> nn.Module:
    """Return the encoder that reads all a task's observation has.

    Raises:
        ConfigError: there are images that no frozen encoder has turned into features.
    """
    if spec.image_shapes:
        raise ConfigError(f"the networks read features, not images; got images {sorted(spec.image_shapes)}")
    return ImageEncoder(tuple(sorted(spec.feature_shapes))) if spec.feature_shapes else StateEncoder()


def blank_observation(spec: EnvSpec, batch: tuple[int, ...] = ()) -> Observation:
    """Return zeros in the shapes of a spec."""
    return Observation(
        proprio=np.zeros((*batch, spec.proprio_size), np.float32),
        images={name: np.zeros((*batch, *shape), np.uint8) for name, shape in spec.image_shapes.items()},
        features={name: np.zeros((*batch, *shape), np.float16) for name, shape in spec.feature_shapes.items()},
    )


def init_encoder(encoder: nn.Module, spec: EnvSpec, *, key: jax.Array) -> dict[str, Any]:
    """Return first parameters under ``encoder``; nothing if it has none."""
    variables = encoder.init(key, blank_observation(spec))
    return {"encoder": variables["params"]} if "params" in variables else {}


def encode(encoder: nn.Module, params: Mapping[str, Any], observation: Observation) -> Float[Array, "*b f"]:
    """Return what `encoder` makes of an observation with the parameters under ``encoder``, if it has any."""
    return jnp.asarray(encoder.apply({"params": params.get("encoder", {})}, observation))
