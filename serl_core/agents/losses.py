"""The losses of soft actor-critic with an ensemble of critics, as functions of numbers alone."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def td_target(
    reward: Float[Array, " b"], discount: Float[Array, " b"], next_q: Float[Array, "n b"], gamma: float
) -> Float[Array, " b"]:
    """Clipped double-Q target (Fujimoto et al. 2018), without entropy.

    `discount` is 0 only after a true end, so a time limit still bootstraps.
    """
    return reward + gamma * discount * next_q.min(axis=0)


def critic_loss(q: Float[Array, "n b"], target: Float[Array, " b"]) -> Float[Array, ""]:
    """Mean squared error of each critic, summed over the ensemble: each learns as if it were alone."""
    return jnp.square(q - target[None]).mean(axis=1).sum()


def disagreement(q: Float[Array, "n b"]) -> Float[Array, ""]:
    """How much the critics differ: the standard deviation over the ensemble, averaged over the batch's second half.

    That half is online experience where the first is demonstrations, on which the critics agree sooner.
    """
    return q[:, q.shape[1] // 2 :].std(axis=0).mean()


def policy_loss(
    log_prob: Float[Array, " b"], q: Float[Array, "n b"], temperature: Float[Array, ""]
) -> Float[Array, ""]:
    """Soft policy loss (Haarnoja et al. 2018, eq. 7) against the mean of the ensemble (Chen et al. 2021, REDQ)."""
    return (temperature * log_prob - q.mean(axis=0)).mean()


def temperature_loss(
    log_temperature: Float[Array, ""], entropy: Float[Array, ""], target_entropy: float
) -> Float[Array, ""]:
    """Raise the temperature while the entropy is below its target (Haarnoja et al. 2018, eq. 18)."""
    return jnp.exp(log_temperature) * (entropy - target_entropy)
