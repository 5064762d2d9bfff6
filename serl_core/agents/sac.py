"""Soft actor-critic from demonstrations and online data (RLPD, Ball et al. 2023), as HIL-SERL runs it.

One call to `update` is everything that one environment step pays for: `utd_ratio` critic updates,
then one update of the policy and of the temperature, in one compiled program.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from serl_core.agents.base import Metrics, Params
from serl_core.agents.losses import critic_loss, disagreement, policy_loss, td_target, temperature_loss
from serl_core.agents.policy import PolicyConfig, TanhGaussianPolicy
from serl_core.errors import ConfigError
from serl_core.networks.augmentation import random_shift
from serl_core.networks.encoders import blank_observation, encode, init_encoder
from serl_core.networks.heads import CriticEnsemble
from serl_core.types import EnvSpec, Observation, Transition

_CRITICS, _POLICY = 0, 1
NONFINITE = "nonfinite_loss", "nonfinite_grad"  # metrics: how many updates of one call were skipped for that

Frozen = Callable[[jax.Array], jax.Array]
"""Images uint8 [*b h w 3] -> features float16 [*b fh fw fc]."""


@dataclass(frozen=True, kw_only=True)
class SacConfig:
    """The method's numbers; the defaults are HIL-SERL's (REFERENCE section 1) but for the temperature's rate."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    critic_hidden: tuple[int, ...] = (256, 256)
    critics: int = 2
    target_critics: int = 2  # how many, drawn anew for each update, the target takes the minimum of
    batch_size: int = 256
    utd_ratio: int = 4  # critic updates per environment step
    gamma: float = 0.97
    tau: float = 0.005  # how far the target critics follow per critic update
    learning_rate: float = 3e-4
    initial_temperature: float = 0.01
    temperature_learning_rate: float = 3e-3
    target_entropy: float | None = None  # None: minus half the action's size
    average_horizon: int = 1000  # policy updates that the final, averaged policy looks back on

    def __post_init__(self) -> None:
        _at_least(1, batch_size=self.batch_size, utd_ratio=self.utd_ratio, average_horizon=self.average_horizon)
        if not 1 <= self.target_critics <= self.critics:
            raise ConfigError(
                f"SacConfig.target_critics: must be 1 to critics={self.critics}, got {self.target_critics}"
            )
        if not self.critic_hidden or min(self.critic_hidden) < 1:
            raise ConfigError(f"SacConfig.critic_hidden: needs layers of at least 1 unit, got {self.critic_hidden}")
        if not 0.0 <= self.gamma < 1.0:
            raise ConfigError(f"SacConfig.gamma: must be at least 0 and below 1, got {self.gamma}")
        _above_zero(
            learning_rate=self.learning_rate,
            temperature_learning_rate=self.temperature_learning_rate,
            initial_temperature=self.initial_temperature,
            tau=self.tau,
        )
        if self.tau > 1.0:
            raise ConfigError(f"SacConfig.tau: must be at most 1, got {self.tau}")


class SacState(NamedTuple):
    """Everything that learning changes."""

    key: jax.Array
    policy: Params
    policy_optimizer: optax.OptState
    averaged_policy: Params
    policy_updates: Int[Array, ""]
    critic: Params
    critic_optimizer: optax.OptState
    target_critic: Params
    log_temperature: Float[Array, ""]
    temperature_optimizer: optax.OptState
    skipped: Int[Array, ""]  # updates whose loss or gradient was not finite, and which changed nothing
    skipped_in_a_row: Int[Array, " 2"]  # of the critics, of the policy: a good one of these does not excuse those


class Batch(NamedTuple):
    """What an update reads of a Transition."""

    observation: Observation
    action: Any  # [*b a]
    reward: Any  # [*b]
    discount: Any  # [*b]
    next_observation: Observation


class Sac:
    """The algorithm for one spec. Holds configuration only; all change is in the state it returns.

    The critics have one encoder among them, and train it; the policy reads what it makes of an observation.

    Args:
        spec: of what the networks read: features, not images.
        config: the method's numbers.
        frozen: turns the images of a batch into features, where batches have images.
    """

    def __init__(self, spec: EnvSpec, config: SacConfig, frozen: Frozen | None = None) -> None:
        self.spec = spec
        self.config = config
        self._frozen = frozen
        self.policy = TanhGaussianPolicy(spec, config.policy)
        self._critics = CriticEnsemble(config.critics, config.critic_hidden)
        self._target_critics = CriticEnsemble(config.target_critics, config.critic_hidden)
        self._optimizer = optax.adam(config.learning_rate)
        self._temperature_optimizer = optax.adam(config.temperature_learning_rate)
        self._target_entropy = -spec.action.size / 2 if config.target_entropy is None else config.target_entropy
        self._first_state = jax.jit(self._init)
        self._update = jax.jit(self._run_updates, donate_argnums=0)

    def init(self, *, key: jax.Array) -> SacState:
        """Return the first state."""
        state: SacState = self._first_state(key)
        return state

    def update(self, state: SacState, batch: Transition) -> tuple[SacState, Metrics]:
        """Run all updates of one environment step; `state` is used up.

        `batch` has leading dims [utd_ratio, batch_size]. An update whose loss or gradient is not
        finite changes nothing but the counters `skipped` and `skipped_in_a_row`.
        """
        used = Batch(batch.observation, batch.action, batch.reward, batch.discount, batch.next_observation)
        after: tuple[SacState, Metrics] = self._update(state, used)
        return after

    def policy_params(self, state: SacState) -> Params:
        """Return what the actor needs to act."""
        return state.policy | _encoder_of(state.critic)

    def q(self, params: Params, observation: Observation, action: jax.Array) -> Float[Array, "n b"]:
        """Return the critics' values with the parameters `SacState.critic`."""
        return _q(self._critics, params, self.policy.encode(params, observation), action)

    def final_policy_params(self, state: SacState) -> Params:
        """Return the average of the policy's weights over about the last `average_horizon` updates.

        The success of a single moment's policy swings while it learns; that of the average does not.
        """
        return state.averaged_policy

    def _init(self, key: jax.Array) -> SacState:
        key, policy_key, critic_key, encoder_key = jax.random.split(key, 4)
        encoder = init_encoder(self.policy.encoder, self.spec, key=encoder_key)
        policy = self.policy.init_head(encoder, key=policy_key)
        encoded = self.policy.encode(encoder, blank_observation(self.spec, (1,)))
        critic = self._critics.init(critic_key, encoded, jnp.zeros((1, self.spec.action.size)))["params"] | encoder
        log_temperature = jnp.asarray(math.log(self.config.initial_temperature), jnp.float32)
        zero = jnp.zeros((), jnp.int32)
        return SacState(
            key=key,
            policy=policy,
            policy_optimizer=self._optimizer.init(policy),
            averaged_policy=policy | encoder,
            policy_updates=zero,
            critic=critic,
            critic_optimizer=self._optimizer.init(critic),
            target_critic=critic,
            log_temperature=log_temperature,
            temperature_optimizer=self._temperature_optimizer.init(log_temperature),
            skipped=zero,
            skipped_in_a_row=jnp.zeros(2, jnp.int32),
        )

    def _run_updates(self, state: SacState, batch: Batch) -> tuple[SacState, Metrics]:
        key, critic_key, policy_key, image_key = jax.random.split(state.key, 4)
        state = state._replace(key=key)
        batch = self._with_features(batch, image_key)
        keys = jax.random.split(critic_key, batch.reward.shape[0])
        state, critic_metrics = jax.lax.scan(self._update_critic, state, (batch, keys))
        last = jax.tree.map(lambda leaf: leaf[-1], batch.observation)
        state, policy_metrics = self._update_policy(state, last, policy_key)
        counts = {"skipped": state.skipped, "skipped_in_a_row": state.skipped_in_a_row.max()}
        counts |= {name: critic_metrics.pop(name).sum() + policy_metrics[name] for name in NONFINITE}
        means = {name: value.mean() for name, value in critic_metrics.items()}
        return state, Metrics(means | policy_metrics | counts)

    def _with_features(self, batch: Batch, key: jax.Array) -> Batch:
        """Return the batch with features instead of images, each image shifted at random before."""
        frozen = self._frozen
        if not batch.observation.images or frozen is None:
            return batch

        def of_one_update(inputs: tuple[Observation, jax.Array]) -> Observation:
            observation, key = inputs
            keys = jax.random.split(key, len(observation.images))
            features: dict[str, Any] = {
                name: frozen(random_shift(jnp.asarray(image), key=image_key))
                for (name, image), image_key in zip(observation.images.items(), keys, strict=True)
            }
            return Observation(observation.proprio, features=features)

        first, second = jax.random.split(key)
        updates = batch.reward.shape[0]
        return batch._replace(
            observation=jax.lax.map(of_one_update, (batch.observation, jax.random.split(first, updates))),
            next_observation=jax.lax.map(of_one_update, (batch.next_observation, jax.random.split(second, updates))),
        )

    def _update_critic(self, state: SacState, inputs: tuple[Batch, jax.Array]) -> tuple[SacState, dict[str, jax.Array]]:
        batch, key = inputs
        config = self.config
        action_key, members_key = jax.random.split(key)
        # Drawn here and not for all batches at once: that much would not stay in the processor's cache.
        next_encoded = self.policy.encode(state.critic, batch.next_observation)
        next_action = self.policy.sample_encoded(state.policy, next_encoded, key=action_key)
        target = state.target_critic
        if config.target_critics < config.critics:
            members = jax.random.choice(members_key, config.critics, (config.target_critics,), replace=False)
            target = target | {"mlp": jax.tree.map(lambda leaf: leaf[members], target["mlp"])}
        next_encoded = self.policy.encode(target, batch.next_observation)
        next_q = _q(self._target_critics, target, next_encoded, next_action)
        goal = td_target(batch.reward, batch.discount, next_q, config.gamma)

        def loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            q = _q(self._critics, params, encode(self.policy.encoder, params, batch.observation), batch.action)
            return critic_loss(q, goal), (q.mean(), disagreement(q))

        (value, (q_mean, q_std)), gradient = jax.value_and_grad(loss, has_aux=True)(state.critic)
        critic, optimizer, is_good = _apply(self._optimizer, gradient, value, state.critic, state.critic_optimizer)
        follow = jnp.where(is_good, config.tau, 0.0)
        target_critic = jax.tree.map(lambda old, new: old + follow * (new - old), state.target_critic, critic)
        state = state._replace(critic=critic, critic_optimizer=optimizer, target_critic=target_critic)
        return _count(state, _CRITICS, is_good), {
            "critic_loss": value,
            "q_mean": q_mean,
            "q_std": q_std,
            "target_q_mean": goal.mean(),
            **_nonfinite(value, is_good),
        }

    def _update_policy(
        self, state: SacState, observation: Observation, key: jax.Array
    ) -> tuple[SacState, dict[str, jax.Array]]:
        encoded = self.policy.encode(state.critic, observation)

        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            action, log_prob = self.policy.sample_with_log_prob(params, encoded, key=key)
            q = _q(self._critics, state.critic, encoded, action)
            return policy_loss(log_prob, q, jnp.exp(state.log_temperature)), -log_prob.mean()

        (value, entropy), gradient = jax.value_and_grad(loss, has_aux=True)(state.policy)
        policy, optimizer, is_good = _apply(self._optimizer, gradient, value, state.policy, state.policy_optimizer)

        temperature_gradient = jax.grad(temperature_loss)(state.log_temperature, entropy, self._target_entropy)
        log_temperature, temperature_optimizer, _ = _apply(
            self._temperature_optimizer,
            temperature_gradient,
            value,
            state.log_temperature,
            state.temperature_optimizer,
        )
        updates = state.policy_updates + is_good
        # A plain mean until the horizon is full, then an exponential one: the first weights leave no trace.
        follow = is_good / jnp.minimum(jnp.maximum(updates, 1), self.config.average_horizon)
        state = state._replace(
            policy=policy,
            policy_optimizer=optimizer,
            averaged_policy=jax.tree.map(
                lambda old, new: old + follow * (new - old), state.averaged_policy, policy | _encoder_of(state.critic)
            ),
            policy_updates=updates,
            log_temperature=log_temperature,
            temperature_optimizer=temperature_optimizer,
        )
        return _count(state, _POLICY, is_good), {
            "policy_loss": value,
            "entropy": entropy,
            "temperature": jnp.exp(log_temperature),
            **_nonfinite(value, is_good),
        }


def _apply(
    optimizer: optax.GradientTransformation, gradient: Params, loss: jax.Array, params: Params, state: Any
) -> tuple[Params, Any, Bool[Array, ""]]:
    """Return parameters and the optimiser's state after one step, or as they were if anything is not finite."""
    square = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient))
    is_good = jnp.isfinite(loss + square)
    updates, new_state = optimizer.update(gradient, state)
    keep = partial(jnp.where, is_good)
    new_params = optax.apply_updates(params, updates)
    return jax.tree.map(keep, new_params, params), jax.tree.map(keep, new_state, state), is_good


def _q(critics: CriticEnsemble, params: Params, encoded: jax.Array, action: jax.Array) -> Float[Array, "n b"]:
    return jnp.asarray(critics.apply({"params": {"mlp": params["mlp"]}}, encoded, action))


def _encoder_of(params: Params) -> Params:
    """Return what `params` has under ``encoder``, still under that name."""
    return {name: branch for name, branch in params.items() if name == "encoder"}


def _count(state: SacState, network: int, is_good: Bool[Array, ""]) -> SacState:
    in_a_row = jnp.where(is_good, 0, state.skipped_in_a_row[network] + 1)
    return state._replace(
        skipped=state.skipped + ~is_good, skipped_in_a_row=state.skipped_in_a_row.at[network].set(in_a_row)
    )


def _nonfinite(loss: jax.Array, is_good: Bool[Array, ""]) -> dict[str, jax.Array]:
    """Return, by the names of `NONFINITE`, whether it was the loss that was not finite, or the gradient alone."""
    is_finite = jnp.isfinite(loss)
    return dict(zip(NONFINITE, ((~is_finite).astype(jnp.int32), (is_finite & ~is_good).astype(jnp.int32)), strict=True))


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise ConfigError(f"SacConfig.{name}: must be at least {low}, got {value}")


def _above_zero(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"SacConfig.{name}: must be above 0, got {value}")
