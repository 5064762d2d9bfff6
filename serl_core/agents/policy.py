"""What acts: a Gaussian squashed by tanh, as pure functions for the learner and in numpy for the actor."""

import math
from dataclasses import dataclass
from functools import cached_property

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from serl_core.agents.base import Params
from serl_core.errors import ConfigError, DataError
from serl_core.networks.encoders import blank_observation, encode, encoder_for, init_encoder
from serl_core.networks.heads import NORM_EPSILON, GaussianHead
from serl_core.types import EnvSpec, Observation

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)

Vector = Float32[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Size of the policy's network, and how wide its Gaussian may be."""

    hidden: tuple[int, ...] = (256, 256)
    log_std_min: float = -5.0
    log_std_max: float = 1.0

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"PolicyConfig.hidden: needs at least one layer of at least 1 unit, got {self.hidden}")
        if not self.log_std_min < self.log_std_max:
            raise ConfigError(
                f"PolicyConfig.log_std_min: must be below log_std_max, got {self.log_std_min} and {self.log_std_max}"
            )


@dataclass(frozen=True)
class TanhGaussianPolicy:
    """action = tanh(mean + std * noise), each number in (-1, 1). Pure; jitted by its owner."""

    spec: EnvSpec
    config: PolicyConfig

    @cached_property
    def encoder(self) -> nn.Module:
        """The module that reads the observation; the critics train it."""
        return encoder_for(self.spec)

    @cached_property
    def head(self) -> GaussianHead:
        """The module behind `distribution`, on what the encoder made of the observation."""
        config = self.config
        return GaussianHead(self.spec.action.size, config.hidden, config.log_std_min, config.log_std_max)

    def init(self, *, key: jax.Array) -> Params:
        """Return first parameters: ``mlp`` and, if the encoder has any, ``encoder``."""
        encoder_key, head_key = jax.random.split(key)
        encoder = init_encoder(self.encoder, self.spec, key=encoder_key)
        return self.init_head(encoder, key=head_key) | encoder

    def init_head(self, encoder: Params, *, key: jax.Array) -> Params:
        """Return first parameters of the head alone, ``mlp``, for the encoder's ``encoder``."""
        return self.head.init(key, self.encode(encoder, blank_observation(self.spec)))["params"]

    def encode(self, params: Params, observation: Observation) -> Float[Array, "*b f"]:
        """Return what the encoder in `params` makes of an observation; the policy never trains it."""
        return jax.lax.stop_gradient(encode(self.encoder, params, observation))

    def distribution(
        self, params: Params, encoded: Float[Array, "*b f"]
    ) -> tuple[Float[Array, "*b a"], Float[Array, "*b a"]]:
        """Return the mean and the logarithm of the standard deviation, before the tanh."""
        mean, log_std = self.head.apply({"params": {"mlp": params["mlp"]}}, encoded)
        return jnp.asarray(mean), jnp.asarray(log_std)

    def mode(self, params: Params, observation: Observation) -> Float[Array, "*b a"]:
        """Return the deterministic action, tanh of the mean."""
        mean, _ = self.distribution(params, self.encode(params, observation))
        return jnp.tanh(mean)

    def sample(self, params: Params, observation: Observation, *, key: jax.Array) -> Float[Array, "*b a"]:
        """Return an action drawn from the policy."""
        return self.sample_encoded(params, self.encode(params, observation), key=key)

    def sample_encoded(self, params: Params, encoded: Float[Array, "*b f"], *, key: jax.Array) -> Float[Array, "*b a"]:
        """Return an action drawn from the policy for what `encode` returned."""
        mean, log_std = self.distribution(params, encoded)
        return jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))

    def sample_with_log_prob(
        self, params: Params, encoded: Float[Array, "*b f"], *, key: jax.Array
    ) -> tuple[Float[Array, "*b a"], Float[Array, "*b"]]:
        """Return an action and the logarithm of its density (Haarnoja et al. 2018, appendix C)."""
        mean, log_std = self.distribution(params, encoded)
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        gaussian = -0.5 * jnp.square(noise) - log_std - HALF_LOG_TAU
        # log(1 - tanh(raw)^2), written so that it neither overflows nor loses digits for large |raw|.
        squash = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
        return jnp.tanh(raw), (gaussian - squash).sum(-1)


class ActingPolicy:
    """A policy with its weights and its own stream of random numbers, for one observation at a time.

    Computes in numpy: three small matrix products take less time than one call into JAX.
    The tests hold it equal to `TanhGaussianPolicy`. Of several copies of features it reads the first.
    """

    def __init__(self, spec: EnvSpec, config: PolicyConfig, seed: int) -> None:
        policy = TanhGaussianPolicy(spec, config)
        self._config = config
        self._feature_shapes = spec.feature_shapes
        self._shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(lambda: policy.init(key=jax.random.key(0))))
        self._params: Params | None = None
        self._rng = np.random.default_rng(seed)

    @property
    def is_loaded(self) -> bool:
        """Whether there are weights to act with."""
        return self._params is not None

    def load(self, params: Params) -> None:
        """Act with a copy of these weights from now on. The old ones stay if the new ones are refused.

        Raises:
            DataError: they are of another network, or not finite.
        """
        shapes = jax.tree.map(np.shape, params)
        if shapes != self._shapes:
            raise DataError(f"policy weights are of another network: got shapes {shapes}, allowed are {self._shapes}")
        if not is_finite(params):
            raise DataError("policy weights hold numbers that are not finite; the ones from before stay")
        self._params = jax.tree.map(lambda leaf: np.array(leaf, np.float32), params)

    def mode(self, observation: Observation) -> Vector:
        """Return the deterministic action, tanh of the mean."""
        mean, _ = self.distribution(observation)
        return np.tanh(mean)

    def sample(self, observation: Observation) -> Vector:
        """Return an action drawn from the policy."""
        mean, log_std = self.distribution(observation)
        return np.tanh(mean + np.exp(log_std) * self._rng.standard_normal(mean.size, np.float32))

    def distribution(self, observation: Observation) -> tuple[Vector, Vector]:
        """Return the mean and log standard deviation before the tanh."""
        params = self._params
        assert params is not None, "load() weights before acting"
        x = self._encode(params["encoder"], observation) if "encoder" in params else observation.proprio
        mlp = params["mlp"]
        for i in range(len(self._config.hidden)):
            x = _layer(x, mlp[f"dense_{i}"], mlp[f"norm_{i}"])
        mean, log_std = np.split(x @ mlp["out"]["kernel"] + mlp["out"]["bias"], 2)
        return mean, np.clip(log_std, self._config.log_std_min, self._config.log_std_max)

    def _encode(self, params: Params, observation: Observation) -> Vector:
        """Do what `ImageEncoder` does."""
        parts = []
        for name, shape in sorted(self._feature_shapes.items()):
            feature = observation.features[name].reshape(-1, *shape)[0].astype(np.float32)
            embedded = np.einsum("pc,pce->ce", feature.reshape(-1, shape[-1]), params[f"embedding_{name}"]["kernel"])
            parts.append(_layer(embedded.ravel(), params[f"image_{name}"]["dense"], params[f"image_{name}"]["norm"]))
        parts.append(_layer(observation.proprio, params["proprio"]["dense"], params["proprio"]["norm"]))
        return np.concatenate(parts)


def _layer(x: Float32[np.ndarray, " i"], dense: Params, norm: Params) -> Float32[np.ndarray, " o"]:
    x = x @ dense["kernel"] + dense["bias"]
    x -= x.mean()
    x *= norm["scale"] / np.sqrt(x @ x / np.float32(x.size) + np.float32(NORM_EPSILON))
    return np.tanh(x + norm["bias"])


def is_finite(params: Params) -> bool:
    """Return whether every number of a tree is finite."""
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
