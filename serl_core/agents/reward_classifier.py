"""The reward classifier: from the frozen encoder's features of each image to the probability of success.

Per image a spatial embedding, then a two-layer MLP over all of them (HIL-SERL, REFERENCE section 1).
Pure functions for training; `acting_classifier.py` is what the actor runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float16

from serl_core.agents.base import Params
from serl_core.errors import ConfigError
from serl_core.networks.encoders import SpatialEmbedding
from serl_core.networks.heads import LayerNorm

Features = Mapping[str, Float16[Array | np.ndarray, "*b h w c"]]
FeatureShapes = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Size of the network, and how it is trained."""

    embeddings: int = 8  # spatial embeddings per channel
    hidden: int = 256
    dropout: float = 0.1
    learning_rate: float = 3e-4
    batch_size: int = 128  # half of it positive
    steps: int = 400

    def __post_init__(self) -> None:
        for name in ("embeddings", "hidden", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ClassifierConfig.{name}: must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2 or self.batch_size % 2:
            raise ConfigError(f"ClassifierConfig.batch_size: must be even and at least 2, got {self.batch_size}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"ClassifierConfig.dropout: must be at least 0 and below 1, got {self.dropout}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ConfigError(f"ClassifierConfig.learning_rate: must be above 0, got {self.learning_rate}")


class RewardClassifier(nn.Module):
    """The network. `images` are the names it reads, in order."""

    images: tuple[str, ...]
    config: ClassifierConfig

    @nn.compact
    def __call__(self, features: Features, *, is_training: bool = False) -> Float[Array, "*b"]:
        """Return the logit of success."""
        parts = [
            SpatialEmbedding(self.config.embeddings, name=f"{name}_embedding")(jnp.asarray(features[name]))
            for name in self.images
        ]
        x = nn.Dense(self.config.hidden, name="dense")(jnp.concatenate(parts, axis=-1))
        x = nn.Dropout(self.config.dropout, deterministic=not is_training)(x)
        x = nn.relu(LayerNorm(name="norm")(x))
        return nn.Dense(1, name="out")(x)[..., 0]


class TrainState(NamedTuple):
    """Everything that training changes."""

    key: jax.Array
    params: Params
    optimizer: optax.OptState


class ClassifierTraining:
    """Training of one network. Holds configuration only; all change is in the state it returns."""

    def __init__(self, shapes: FeatureShapes, config: ClassifierConfig) -> None:
        self.config = config
        self.network = RewardClassifier(tuple(sorted(shapes)), config)
        self._shapes = dict(shapes)
        self._optimizer = optax.adam(config.learning_rate)
        self._step = jax.jit(self._run_step, donate_argnums=0)

    def init(self, *, key: jax.Array) -> TrainState:
        """Return the first state."""
        key, params_key = jax.random.split(key)
        blank = {name: np.zeros(shape, np.float16) for name, shape in self._shapes.items()}
        params = self.network.init(params_key, blank)["params"]
        return TrainState(key, params, self._optimizer.init(params))

    def step(self, state: TrainState, positive: Features, negative: Features) -> tuple[TrainState, Float[Array, ""]]:
        """Return the next state and the loss on a batch that is half positive, half negative; `state` is used up."""
        return self._step(state, positive, negative)

    def _run_step(
        self, state: TrainState, positive: Features, negative: Features
    ) -> tuple[TrainState, Float[Array, ""]]:
        key, dropout_key = jax.random.split(state.key)
        loss, gradient = jax.value_and_grad(self._loss)(state.params, positive, negative, dropout_key)
        updates, optimizer = self._optimizer.update(gradient, state.optimizer)
        return TrainState(key, optax.apply_updates(state.params, updates), optimizer), loss

    def _loss(self, params: Params, positive: Features, negative: Features, key: jax.Array) -> Float[Array, ""]:
        both = {name: jnp.concatenate([positive[name], negative[name]]) for name in self.network.images}
        logit = jnp.asarray(self.network.apply({"params": params}, both, is_training=True, rngs={"dropout": key}))
        label = jnp.arange(logit.size) < logit.size // 2
        return optax.sigmoid_binary_cross_entropy(logit, label.astype(logit.dtype)).mean()


def with_prior(params: dict[str, Any], positives: int, negatives: int) -> Params:
    """Return parameters whose probabilities hold for frames of which so many are positive and negative.

    Training sees as many of one kind as of the other; Bayes' rule moves the logit by the logarithm
    of the ratio (Saerens et al. 2002).
    """
    out = params["out"]
    return {**params, "out": {**out, "bias": out["bias"] + math.log(positives / negatives)}}
