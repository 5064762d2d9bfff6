"""The networks of the actor and the critics: small MLPs with LayerNorm and tanh (HIL-SERL, REFERENCE section 1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NORM_EPSILON = 1e-6


@jax.custom_vjp
def normalize(x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Return `x` with mean 0 and variance 1 over the last axis.

    Has its own gradient, and takes means over the last axis as products with a vector of 1/h: XLA's
    CPU back end makes something slower of the plain formula.
    """
    return _normalize(x)[0]


def _normalize(
    x: Float[Array, "*b h"],
) -> tuple[Float[Array, "*b h"], tuple[Float[Array, "*b h"], Float[Array, "*b 1"]]]:
    mean = _row_mean(x)
    inverse = jax.lax.rsqrt(_row_mean(jnp.square(x)) - jnp.square(mean) + NORM_EPSILON)
    normal = (x - mean) * inverse
    return normal, (normal, inverse)


def _normalize_gradient(
    kept: tuple[Float[Array, "*b h"], Float[Array, "*b 1"]], gradient: Float[Array, "*b h"]
) -> tuple[Float[Array, "*b h"]]:
    normal, inverse = kept
    return ((gradient - _row_mean(gradient) - normal * _row_mean(gradient * normal)) * inverse,)


normalize.defvjp(_normalize, _normalize_gradient)


def _row_mean(x: Float[Array, "*b h"]) -> Float[Array, "*b 1"]:
    return x @ jnp.full((x.shape[-1], 1), 1.0 / x.shape[-1], x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) over the last axis."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """Return `x` with mean 0 and variance 1 over the last axis, then scaled and shifted."""
        size = x.shape[-1]
        last = (1,) * (x.ndim - 1) + (size,)
        scale = self.param("scale", nn.initializers.ones, (size,)).reshape(last)
        bias = self.param("bias", nn.initializers.zeros, (size,)).reshape(last)
        return normalize(x) * scale + bias


class MLP(nn.Module):
    """Hidden layers (dense, LayerNorm, tanh), then a plain dense layer."""

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Return the last layer's output."""
        for i, size in enumerate(self.hidden):
            x = nn.tanh(LayerNorm(name=f"norm_{i}")(nn.Dense(size, name=f"dense_{i}")(x)))
        return nn.Dense(self.out, name="out")(x)


class GaussianHead(nn.Module):
    """A diagonal Gaussian over the action before its tanh."""

    action_size: int
    hidden: tuple[int, ...]
    log_std_min: float
    log_std_max: float

    @nn.compact
    def __call__(self, encoded: Float[Array, "*b f"]) -> tuple[Float[Array, "*b a"], Float[Array, "*b a"]]:
        """Return the mean and the logarithm of the standard deviation."""
        out = MLP(self.hidden, 2 * self.action_size, name="mlp")(encoded)
        mean, log_std = jnp.split(out, 2, axis=-1)
        return mean, jnp.clip(log_std, self.log_std_min, self.log_std_max)


class CriticEnsemble(nn.Module):
    """Independent critics: every layer of every member has its own parameters, along a leading axis."""

    members: int
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, encoded: Float[Array, "b f"], action: Float[Array, "b a"]) -> Float[Array, "n b"]:
        """Return the value of each pair according to each member."""
        x = jnp.concatenate([encoded, action], axis=-1)
        # One copy of the input per member: XLA then sees one batched matrix product per layer.
        x = jnp.broadcast_to(x, (self.members, *x.shape))
        ensemble = nn.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, axis_size=self.members
        )
        return ensemble(self.hidden, 1, name="mlp")(x)[..., 0]
