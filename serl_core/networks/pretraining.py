"""Trains the small encoder to tell from one image where the target is, and measures how well any encoder's features do.

The objective: one head per camera reads the places of key points off the feature map, and regresses from
them what a policy must know. Only the small network is kept. The measure, `probe`, has heads of the shape that
the critics' encoder has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float16, Float32, UInt8

from serl_core.networks import small_cnn
from serl_core.networks.encoders import EMBEDDINGS, IMAGE_UNITS, SpatialEmbedding
from serl_core.networks.heads import LayerNorm

LEARNING_RATE = 3e-3
PROBE_LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
WEIGHT_DECAY = 1e-4
BATCH = 4  # images of each camera: on a processor, many small steps get further than few large ones
SHIFT = 1  # pixels, up, down, left and right
MAX_NOISE = 8.0  # standard deviation, of 255
MAX_GAIN = 0.3  # of the brightness
HUBER = 0.05  # in scaled units: beyond it the loss is linear
PROBE_BATCH = 64
PROBE_STEPS = 1500

Params = dict[str, Any]
Encode = Callable[[UInt8[Array | np.ndarray, "n h w 3"]], Float16[Array, "n fh fw fc"]]


class LabelledImages(NamedTuple):
    """Images of the same moments from every camera, and what is to be read off them."""

    images: UInt8[np.ndarray, "c n h w 3"]
    targets: Float32[np.ndarray, "n t"]  # scaled to order one


class KeypointHead(nn.Module):
    """Where each channel is bright (spatial softmax, Finn et al. 2016) -> numbers. For the training."""

    outputs: int

    @nn.compact
    def __call__(self, features: Float[Array, "n h w c"]) -> Float[Array, "n t"]:
        """Return the numbers."""
        count, height, width, channels = features.shape
        sharpness = self.param("sharpness", nn.initializers.ones, (channels,)).reshape(1, 1, 1, channels)
        share = nn.softmax((features * sharpness).reshape(count, height * width, channels), axis=1)
        axes = (jnp.linspace(-1.0, 1.0, height), jnp.linspace(-1.0, 1.0, width))
        places = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(height * width, 2)
        x = jnp.einsum("npc,pd->ncd", share, places).reshape(count, 2 * channels)
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(IMAGE_UNITS)(x)))


class ProbeHead(nn.Module):
    """What the critics' encoder makes of an image's features -> numbers."""

    outputs: int

    @nn.compact
    def __call__(self, features: Float[Array, "n h w c"]) -> Float[Array, "n t"]:
        """Return the numbers."""
        x = SpatialEmbedding(EMBEDDINGS)(features)
        return nn.Dense(self.outputs)(nn.tanh(LayerNorm()(nn.Dense(IMAGE_UNITS)(x))))


def pretrain(
    data: LabelledImages, steps: int, seed: int, report: Callable[[int, float], None] = lambda step, loss: None
) -> Params:
    """Return the small encoder's weights after `steps` updates of it and one head per camera (AdamW, cosine).

    Args:
        data: what to learn.
        steps: updates, each on `BATCH` images of every camera.
        seed: of the first weights, the order and the augmentation.
        report: called after each step with its number, from 1, and its loss.
    """
    cameras, count = data.images.shape[:2]
    encoder = jax.tree.map(jnp.asarray, small_cnn.init(seed))
    shape = small_cnn.feature_shape(*data.images.shape[2:4])
    head = KeypointHead(data.targets.shape[-1])
    key, own = jax.random.split(jax.random.key(seed))
    heads = _init(head, cameras, shape, key=own)
    params = {"encoder": encoder, "heads": heads}
    optimiser = _optimiser(LEARNING_RATE, steps)
    state = optimiser.init(params)

    @jax.jit
    def update(
        params: Params, state: Any, images: UInt8[Array, "c b h w 3"], targets: Float[Array, "b t"], key: jax.Array
    ) -> tuple[Params, Any, Float[Array, ""]]:
        def loss(params: Params) -> Float[Array, ""]:
            x = _augment(images.reshape(-1, *images.shape[2:]), key=key)
            features = small_cnn.apply(params["encoder"], x)
            return _loss(head, params["heads"], features.reshape(*images.shape[:2], *features.shape[1:]), targets)

        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    random = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        chosen = random.integers(0, count, BATCH)
        key, own = jax.random.split(key)
        params, state, value = update(params, state, data.images[:, chosen], data.targets[chosen], own)
        report(step, float(value))
    return jax.tree.map(np.asarray, params["encoder"])


def probe(
    encode: Encode, train: LabelledImages, held_out: LabelledImages, seed: int, steps: int = PROBE_STEPS
) -> Float32[np.ndarray, "c n t"]:
    """Return the errors, on images held out, of heads trained on a frozen encoder's features of others.

    Args:
        encode: the frozen encoder.
        train: what the heads learn from, as it is.
        held_out: what the errors are of.
        seed: of the heads' first weights and the order.
        steps: updates, each on `PROBE_BATCH` images of every camera.
    """
    features, held_out_features = (_features(encode, data.images) for data in (train, held_out))
    cameras, count = features.shape[:2]
    head = ProbeHead(train.targets.shape[-1])
    heads = _init(head, cameras, features.shape[2:], key=jax.random.key(seed))
    optimiser = _optimiser(PROBE_LEARNING_RATE, steps)
    state = optimiser.init(heads)

    @jax.jit
    def update(
        heads: Params, state: Any, features: Float[Array, "c b h w d"], targets: Float[Array, "b t"]
    ) -> tuple[Params, Any]:
        change, state = optimiser.update(jax.grad(_loss, argnums=1)(head, heads, features, targets), state, heads)
        return optax.apply_updates(heads, change), state

    random = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = random.integers(0, count, PROBE_BATCH)
        heads, state = update(heads, state, features[:, chosen], train.targets[chosen])
    return np.asarray(_predict(head, heads, jnp.asarray(held_out_features))) - held_out.targets[None]


def _optimiser(rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(WARM_UP_STEPS, steps // 2), max(steps, 1))
    return optax.adamw(schedule, weight_decay=WEIGHT_DECAY)


def _init(head: nn.Module, cameras: int, shape: tuple[int, ...], *, key: jax.Array) -> Params:
    """Return one head's parameters per camera, along a leading axis."""
    first = jnp.zeros((1, *shape))
    return jax.vmap(lambda key: head.init(key, first)["params"])(jax.random.split(key, cameras))


def _predict(head: nn.Module, heads: Params, features: Float[Array, "c n h w d"]) -> Float[Array, "c n t"]:
    return jax.vmap(lambda params, x: jnp.asarray(head.apply({"params": params}, x)))(heads, features)


def _loss(
    head: nn.Module, heads: Params, features: Float[Array, "c n h w d"], targets: Float[Array, "n t"]
) -> Float[Array, ""]:
    error = _predict(head, heads, features) - targets[None]
    return jnp.asarray(optax.huber_loss(error, delta=HUBER)).mean() / HUBER


def _features(encode: Encode, images: UInt8[np.ndarray, "c n h w 3"]) -> Float16[np.ndarray, "c n fh fw fc"]:
    jitted = jax.jit(encode)
    return np.stack([np.concatenate([jitted(image[None]) for image in camera]) for camera in images])


def _augment(images: UInt8[Array, "n h w 3"], *, key: jax.Array) -> Float[Array, "n h w 3"]:
    """Return the images shifted, brighter or darker, and noisy: each its own way."""
    count, height, width, _ = images.shape
    shift_key, gain_key, level_key, noise_key = jax.random.split(key, 4)
    padded = jnp.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "edge")
    shifts = jax.random.randint(shift_key, (count, 2), 0, 2 * SHIFT + 1)
    x = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), (height, width, 3)))(padded, shifts)
    gain = jax.random.uniform(gain_key, (count, 1, 1, 1), minval=1 - MAX_GAIN, maxval=1 + MAX_GAIN)
    level = jax.random.uniform(level_key, (count, 1, 1, 1), maxval=MAX_NOISE)
    return jnp.clip(x.astype(jnp.float32) * gain + level * jax.random.normal(noise_key, x.shape), 0.0, 255.0)
