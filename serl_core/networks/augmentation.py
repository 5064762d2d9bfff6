"""Random shifts of images: the augmentation of HIL-SERL (after DrQ, Kostrikov et al. 2020)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

PADDING = 4  # pixels


def random_shift(
    images: UInt8[Array, "*b h w 3"], *, key: jax.Array, padding: int = PADDING
) -> UInt8[Array, "*b h w 3"]:
    """Return each image moved by up to `padding` pixels either way, its edge rows and columns repeated."""
    *batch, height, width, channels = images.shape
    flat = images.reshape(-1, height, width, channels)
    padded = jnp.pad(flat, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="edge")
    corners = jax.random.randint(key, (flat.shape[0], 2), 0, 2 * padding + 1)

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners).reshape(*batch, height, width, channels)
