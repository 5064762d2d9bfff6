"""What an algorithm must offer: a pure update for the learner, a policy for the actor."""

from typing import Any, NamedTuple, Protocol

import jax
from jaxtyping import Array, Float

from serl_core.types import Observation, Transition

Params = Any  # a plain nested dict of arrays
State = Any  # a pytree: everything a checkpoint must hold to go on exactly


class Metrics(NamedTuple):
    """Scalars of one environment step's updates, by name."""

    values: dict[str, Float[Array, ""]]


class Agent(Protocol):
    """A learning algorithm. Holds configuration only; all change is in the state it returns."""

    def init(self, *, key: jax.Array) -> State:
        """Return the first state. Shapes come from the EnvSpec given to the constructor."""

    def update(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        """Run all updates of one environment step.

        `batch` has leading dims [utd_ratio, batch_size]. Jitted; `state` (with its random key) is donated.
        """

    def policy_params(self, state: State) -> Params:
        """Return what the actor needs to act: the policy's parameters alone."""

    def final_policy_params(self, state: State) -> Params:
        """Return the policy to keep after training (averaged weights)."""


class Policy(Protocol):
    """What acts. Pure; jitted by its owner."""

    def sample(self, params: Params, observation: Observation, *, key: jax.Array) -> Float[Array, "*b a"]:
        """Return an action drawn from the policy."""

    def mode(self, params: Params, observation: Observation) -> Float[Array, "*b a"]:
        """Return the deterministic action, tanh of the mean."""
