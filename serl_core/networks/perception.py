"""From a task's images to what its networks read: which frozen encoder, which shapes, and the encoding itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float16, UInt8

from serl_core.config import TaskConfig
from serl_core.image_config import ImageMode
from serl_core.networks.augmentation import random_shift
from serl_core.networks.frozen import FrozenEncoder, load_encoder
from serl_core.types import EnvSpec


@dataclass(frozen=True)
class Perception:
    """How one task sees.

    Attributes:
        digest: of the task, the encoder and the mode: what actor, learner, demonstrations and log must share.
        frozen: the encoder; None for a task without images.
        spec: of what the networks read: features.
        stored: of what transitions and buffers hold: features too, or in `ImageMode.PIXELS` the images.
    """

    digest: str
    frozen: FrozenEncoder | None
    spec: EnvSpec
    stored: EnvSpec


def perception_for(task: TaskConfig) -> Perception:
    """Return how a task sees, with its encoder's weights loaded. Raises as `load_encoder` does."""
    env_spec, config = task.env_spec(), task.observation.encoder
    if not env_spec.image_shapes:
        return Perception(task.digest(), None, env_spec, env_spec)
    frozen = load_encoder(config)
    features = {name: frozen.feature_shape(height, width) for name, (height, width, _) in env_spec.image_shapes.items()}
    spec = dataclasses.replace(env_spec, image_shapes={}, feature_shapes=features)
    if config.mode is ImageMode.PIXELS:
        return Perception(task.digest(f"{frozen.identity}-pixels"), frozen, spec, env_spec)
    copies = f"-x{config.copies}" if config.copies > 1 else ""
    stored = dataclasses.replace(spec, feature_copies=config.copies)
    return Perception(task.digest(frozen.identity + copies), frozen, spec, stored)


class ImageEncoder:
    """Encodes the images of one moment, all in one call of one compiled program.

    Args:
        frozen: the encoder.
        copies: of each image: the first as it is, the others shifted at random.
        seed: of the shifts.
    """

    def __init__(self, frozen: FrozenEncoder, *, copies: int = 1, seed: int = 0) -> None:
        self._frozen = frozen
        self._copies = copies
        self._key = jax.random.key(seed)
        self._calls = 0
        self._encode = jax.jit(self._run)

    def __call__(self, images: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> dict[str, Float16[np.ndarray, "..."]]:
        """Return the features by name: [fh fw fc], or [copies fh fw fc] with more than one copy."""
        self._calls += 1
        features = self._encode(dict(images), np.uint32(self._calls))
        return {name: np.asarray(feature) for name, feature in features.items()}

    def _run(self, images: dict[str, Array], call: Array) -> dict[str, Array]:
        names = sorted(images)
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name in names:
            by_shape.setdefault(images[name].shape, []).append(name)
        key = jax.random.fold_in(self._key, call)
        features: dict[str, Array] = {}
        for group in by_shape.values():
            stack = jnp.stack([images[name] for name in group])
            copies = [stack]
            for copy in range(1, self._copies):
                copies.append(random_shift(stack, key=jax.random.fold_in(key, copy)))
            encoded = self._frozen.encode(jnp.stack(copies, axis=1))
            for i, name in enumerate(group):
                features[name] = encoded[i] if self._copies > 1 else encoded[i, 0]
        return features
