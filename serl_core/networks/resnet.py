"""ResNet-10 with group normalisation: the frozen image encoder of HIL-SERL.

A ResNet (He et al. 2016) of four stages of one basic block, without its pooling and its classifier. Its
parameters have the names and shapes of the ImageNet weights that HIL-SERL publishes, so those load as they are.
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, UInt8

FILTERS = (64, 128, 256, 512)
NORM_GROUPS = 4
NORM_EPSILON = 1e-5
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Params = dict[str, Any]


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is projected where the shape changes."""

    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b ho wo o"]:
        """Return the block's output, after its ReLU."""
        y = _conv(self.filters, 3, self.stride, "Conv_0")(x)
        y = nn.relu(_norm("MyGroupNorm_0")(y))
        y = _norm("MyGroupNorm_1")(_conv(self.filters, 3, 1, "Conv_1")(y))
        if x.shape != y.shape:
            x = _norm("norm_proj")(_conv(self.filters, 1, self.stride, "conv_proj")(x))
        return nn.relu(x + y)


class ResNet10(nn.Module):
    """The network up to the last block's feature map."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b fh fw 512"]:
        """Return the feature map of images that are normalised as for ImageNet."""
        x = nn.Conv(64, (7, 7), 2, padding=3, use_bias=False, name="conv_init")(x)
        x = nn.relu(_norm("norm_init")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")  # type: ignore[no-untyped-call]
        for i, filters in enumerate(FILTERS):
            x = ResNetBlock(filters, 1 if i == 0 else 2, name=f"ResNetBlock_{i}")(x)
        return x


def init(seed: int) -> Params:
    """Return random weights: nested, JAX arrays, float32."""
    return ResNet10().init(jax.random.key(seed), jnp.zeros((1, 32, 32, 3)))["params"]


@cache
def shapes() -> Params:
    """Return what the weights must be like, without computing any: nested `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(lambda: init(0))


def feature_shape(height: int, width: int) -> tuple[int, int, int]:
    """Return the shape of what `encode` makes of an image of this size in pixels."""
    for _ in range(5):  # the first convolution, the pooling and three stages halve it, rounding up
        height, width = -(-height // 2), -(-width // 2)
    return height, width, FILTERS[-1]


def encode(params: Params, images: UInt8[Array, "b h w 3"]) -> Float16[Array, "b fh fw fc"]:
    """Return the features of RGB images."""
    mean, std = (np.array(values, np.float32).reshape(1, 1, 1, 3) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x = (images.astype(jnp.float32) / 255.0 - mean) / std
    return jnp.asarray(ResNet10().apply({"params": params}, x)).astype(jnp.float16)


def _conv(filters: int, kernel: int, stride: int, name: str) -> nn.Conv:
    return nn.Conv(filters, (kernel, kernel), stride, use_bias=False, name=name)


def _norm(name: str) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, name=name)
