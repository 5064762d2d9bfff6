"""The frozen encoder: every image passes it once. The actor's and the learner's must have the same `identity`."""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float16, UInt8

from serl_core.errors import ConfigError
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks import resnet, small_cnn
from serl_core.networks.compilation import cache_folder
from serl_core.networks.weights import check_weights, load_weights

logger = logging.getLogger(__name__)

SMALL_WEIGHTS = Path(__file__).parent / "pretrained" / "small.safetensors"
RANDOM_SEED = 0

Params = dict[str, Any]


@dataclass(frozen=True)
class FrozenEncoder:
    """A network that never learns.

    Attributes:
        kind: which; never AUTO.
        identity: the kind and a hash of the weights, such as "small-1a2b3c4d5e6f7a8b".
        params: nested, numpy.
    """

    kind: EncoderKind
    identity: str
    params: Params = field(compare=False, repr=False)

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of the features of an image of this size in pixels: (rows, columns, channels)."""
        return _network(self.kind).feature_shape(height, width)

    def encode(self, images: UInt8[Array | np.ndarray, "*b h w 3"]) -> Float16[Array, "*b fh fw fc"]:
        """Return the features of RGB images. Pure; jitted by its owner, alone or inside a larger program."""
        batch, image = images.shape[:-3], images.shape[-3:]
        features = _network(self.kind).encode(self.params, jnp.asarray(images).reshape(-1, *image))
        return features.reshape(*batch, *features.shape[1:])


def resnet_weights() -> Path:
    """Return where the ImageNet weights of ResNet-10 are looked for, and `serl weights convert` puts them."""
    return cache_folder() / "resnet10.safetensors"


def load_encoder(config: EncoderConfig) -> FrozenEncoder:
    """Return the encoder that a task's configuration asks for, and log which that is.

    `EncoderKind.AUTO` takes ResNet-10 if its weights are on this machine, else the small encoder.

    Raises:
        ConfigError: a file of weights for the random encoder, or for one to be chosen.
        DataError: the weights are not there, or not this encoder's.
    """
    if config.weights is not None and config.kind in (EncoderKind.AUTO, EncoderKind.RANDOM):
        raise ConfigError(
            f"EncoderConfig.weights: {config.kind.value!r} takes none, got {config.weights!r}; set EncoderConfig.kind "
            "to the one they are for, small or resnet10"
        )
    kind = config.kind
    if kind is EncoderKind.AUTO:
        kind = EncoderKind.RESNET10 if resnet_weights().exists() else EncoderKind.SMALL
    params, source = _weights(kind, config.weights)
    encoder = FrozenEncoder(kind, f"{kind.value}-{weights_hash(params)}", params)
    logger.info("frozen encoder %s (%s)", encoder.identity, source)
    return encoder


def weights_hash(params: Params) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of weights with their names and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):  # sorted by name
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _weights(kind: EncoderKind, path: str | None) -> tuple[Params, str]:
    if kind is EncoderKind.RANDOM:
        return small_cnn.init(RANDOM_SEED), f"untrained, seed {RANDOM_SEED}"
    usual = resnet_weights() if kind is EncoderKind.RESNET10 else SMALL_WEIGHTS
    file = Path(path) if path else usual
    remedy = (
        "'serl weights convert PICKLE' makes it of the pickle that HIL-SERL publishes"
        if kind is EncoderKind.RESNET10
        else "'serl encoder pretrain' writes such a file; the package has one"
    )
    params = load_weights(file, remedy)
    check_weights(file, params, _network(kind).shapes(), remedy)
    return params, str(file)


def _network(kind: EncoderKind) -> Any:
    return resnet if kind is EncoderKind.RESNET10 else small_cnn
