"""The small encoder: four strided convolutions, each normalised over the image. It runs on one processor core."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, UInt8

FILTERS = (32, 64, 64, 64)
KERNEL = 3
STRIDE = 2
NORM_EPSILON = 1e-5
LAYOUT = ("NHWC", "HWIO", "NHWC")

Params = dict[str, Any]


def init(seed: int) -> Params:
    """Return first weights (He et al. 2015): nested, numpy float32. The same on every machine."""
    random = np.random.default_rng(seed)
    params: Params = {}
    inputs = 3
    for i, filters in enumerate(FILTERS):
        shape = (KERNEL, KERNEL, inputs, filters)
        scale = np.sqrt(2.0 / (KERNEL * KERNEL * inputs))
        params[f"conv_{i}"] = {"kernel": (scale * random.standard_normal(shape)).astype(np.float32)}
        params[f"norm_{i}"] = {"scale": np.ones(filters, np.float32), "bias": np.zeros(filters, np.float32)}
        inputs = filters
    return params


def shapes() -> Params:
    """Return arrays with the shapes of the weights."""
    return init(0)


def feature_shape(height: int, width: int) -> tuple[int, int, int]:
    """Return the shape of what `encode` makes of an image of this size in pixels."""
    for _ in FILTERS:
        height, width = -(-height // STRIDE), -(-width // STRIDE)
    return height, width, FILTERS[-1]


def encode(params: Params, images: UInt8[Array, "b h w 3"]) -> Float16[Array, "b fh fw fc"]:
    """Return the features of RGB images."""
    return apply(params, images.astype(jnp.float32)).astype(jnp.float16)


def apply(params: Params, x: Float[Array, "b h w 3"]) -> Float[Array, "b fh fw fc"]:
    """Return the features of RGB images in 0..255, in single precision: differentiable, for training."""
    x = _normalize(x, 1.0)  # what is alike but for the brightness and contrast of each colour has the same features
    for i in range(len(FILTERS)):
        kernel = jnp.asarray(params[f"conv_{i}"]["kernel"], x.dtype)
        x = jax.lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), "SAME", dimension_numbers=LAYOUT)
        x = jax.nn.relu(instance_norm(x, **params[f"norm_{i}"]))
    return x


def instance_norm(
    x: Float[Array, "b h w c"], scale: Float[Array | np.ndarray, " c"], bias: Float[Array | np.ndarray, " c"]
) -> Float[Array, "b h w c"]:
    """Return `x` with mean 0 and variance 1 over each image and channel (Ulyanov et al. 2016), scaled and shifted."""
    last = (1, 1, 1, -1)
    return _normalize(x, NORM_EPSILON) * jnp.asarray(scale).reshape(last) + jnp.asarray(bias).reshape(last)


def _normalize(x: Float[Array, "b h w c"], epsilon: float) -> Float[Array, "b h w c"]:
    x = x - x.mean((1, 2), keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean((1, 2), keepdims=True) + epsilon)
