"""What acts: a Gaussian squashed by tanh, as pure functions for the learner and in numpy for the actor."""

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from serl_core.agents.base import Params
from serl_core.errors import ConfigError, DataError
from serl_core.networks.encoders import encoder_for
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
    def network(self) -> GaussianHead:
        """The module behind `distribution`."""
        config = self.config
        return GaussianHead(
            encoder_for(self.spec), self.spec.action.size, config.hidden, config.log_std_min, config.log_std_max
        )

    def init(self, *, key: jax.Array) -> Params:
        """Return first parameters."""
        observation = Observation(proprio=np.zeros(self.spec.proprio_size, np.float32))
        return self.network.init(key, observation)["params"]

    def distribution(
        self, params: Params, observation: Observation
    ) -> tuple[Float[Array, "*b a"], Float[Array, "*b a"]]:
        """Return the mean and the logarithm of the standard deviation, before the tanh."""
        mean, log_std = self.network.apply({"params": params}, observation)
        return jnp.asarray(mean), jnp.asarray(log_std)

    def mode(self, params: Params, observation: Observation) -> Float[Array, "*b a"]:
        """Return the deterministic action, tanh of the mean."""
        mean, _ = self.distribution(params, observation)
        return jnp.tanh(mean)

    def sample(self, params: Params, observation: Observation, *, key: jax.Array) -> Float[Array, "*b a"]:
        """Return an action drawn from the policy."""
        mean, log_std = self.distribution(params, observation)
        return jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))

    def sample_with_log_prob(
        self, params: Params, observation: Observation, *, key: jax.Array
    ) -> tuple[Float[Array, "*b a"], Float[Array, "*b"]]:
        """Return an action and the logarithm of its density (Haarnoja et al. 2018, appendix C)."""
        mean, log_std = self.distribution(params, observation)
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        gaussian = -0.5 * jnp.square(noise) - log_std - HALF_LOG_TAU
        # log(1 - tanh(raw)^2), written so that it neither overflows nor loses digits for large |raw|.
        squash = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
        return jnp.tanh(raw), (gaussian - squash).sum(-1)


class ActingPolicy:
    """A policy with its weights and its own stream of random numbers, for one observation at a time.

    Computes in numpy: three small matrix products take less time than one call into JAX.
    The tests hold it equal to `TanhGaussianPolicy`.
    """

    def __init__(self, spec: EnvSpec, config: PolicyConfig, seed: int) -> None:
        policy = TanhGaussianPolicy(spec, config)
        self._config = config
        self._shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(lambda: policy.init(key=jax.random.key(0))))
        self._mlp: Params | None = None
        self._rng = np.random.default_rng(seed)

    @property
    def is_loaded(self) -> bool:
        """Whether there are weights to act with."""
        return self._mlp is not None

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
        self._mlp = jax.tree.map(lambda leaf: np.array(leaf, np.float32), params)["mlp"]

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
        mlp = self._mlp
        assert mlp is not None, "load() weights before acting"
        x = observation.proprio
        for i in range(len(self._config.hidden)):
            dense, norm = mlp[f"dense_{i}"], mlp[f"norm_{i}"]
            x = x @ dense["kernel"] + dense["bias"]
            x -= x.mean()
            x *= norm["scale"] / np.sqrt(x @ x / np.float32(x.size) + np.float32(NORM_EPSILON))
            x = np.tanh(x + norm["bias"])
        mean, log_std = np.split(x @ mlp["out"]["kernel"] + mlp["out"]["bias"], 2)
        return mean, np.clip(log_std, self._config.log_std_min, self._config.log_std_max)


def is_finite(params: Params) -> bool:
    """Return whether every number of a tree is finite."""
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
