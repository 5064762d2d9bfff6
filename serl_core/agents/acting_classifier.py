"""A trained reward classifier on the actor: one file, checked against cameras and encoder, then numpy alone."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
from jaxtyping import Float16, UInt8
from safetensors import safe_open

from serl_core.agents.base import Params
from serl_core.agents.reward_classifier import ClassifierConfig, RewardClassifier
from serl_core.config import TaskConfig
from serl_core.data.labelled_frames import Shape, require_images
from serl_core.errors import ConfigError, DataError
from serl_core.networks.heads import NORM_EPSILON
from serl_core.networks.weights import FACTS, check_weights, load_weights, save_weights

logger = logging.getLogger(__name__)

VERSION = 1
REMEDY = "'serl classifier train' writes one"


class ClassifierFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a classifier file says about itself."""

    version: int = VERSION
    task: str
    encoder: str  # identity of the frozen encoder it was trained on
    image_shapes: dict[str, Shape]  # (height, width, 3) of each image it reads
    image_origins: dict[str, str] = {}  # of each: `ObservationConfig.image_origins`
    feature_shapes: dict[str, Shape]  # of what the encoder makes of them
    config: ClassifierConfig
    threshold: float  # from this probability on a frame counts as success
    frames: int  # in a row, with which the threshold was chosen
    metrics: dict[str, Any]  # on the validation episodes

    def __post_init__(self) -> None:
        if set(self.image_shapes) != set(self.feature_shapes) or not self.image_shapes:
            raise ValueError(f"features of {sorted(self.feature_shapes)} for images {sorted(self.image_shapes)}")
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold {self.threshold} is not above 0 and at most 1")


class ActingClassifier:
    """The probability of success in one look, well below a millisecond. The tests hold it equal to the network."""

    def __init__(self, params: Params, facts: ClassifierFacts) -> None:
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
        self.facts = facts
        self._images = tuple(sorted(facts.feature_shapes))
        self._embeddings: list[tuple[str, np.ndarray]] = []
        for name in self._images:
            kernel = params[f"{name}_embedding"]["kernel"]  # [h*w, c, e]
            self._embeddings.append((name, np.ascontiguousarray(kernel.transpose(1, 0, 2))))
        self._dense, self._norm, self._out = params["dense"], params["norm"], params["out"]
        self._is_alarmed = False

    @property
    def threshold(self) -> float:
        """From this probability on a frame counts as success."""
        return self.facts.threshold

    def probability(self, features: Mapping[str, Float16[np.ndarray, "..."]]) -> float:
        """Return the probability of success; 0 for features that make it NaN, which is logged once.

        Args:
            features: of at least the classifier's images, [h w c] or [k h w c], of which the first is read.
        """
        parts = [self._embed(kernel, features[name]) for name, kernel in self._embeddings]
        x = np.concatenate(parts) @ self._dense["kernel"] + self._dense["bias"]
        x -= x.mean()
        x *= self._norm["scale"] / np.sqrt(x @ x / np.float32(x.size) + np.float32(NORM_EPSILON))
        x = np.maximum(x + self._norm["bias"], 0.0)
        logit = float((x @ self._out["kernel"] + self._out["bias"])[0])
        if math.isnan(logit):
            if not self._is_alarmed:
                logger.error("the reward classifier got features that are not finite; they count as no success")
            self._is_alarmed = True
            return 0.0
        return 0.5 + 0.5 * math.tanh(0.5 * logit)  # the logistic function, without overflow

    def classify(
        self, images: Mapping[str, UInt8[np.ndarray, "h w 3"]], features: Mapping[str, Float16[np.ndarray, "..."]]
    ) -> float:
        """Return the probability of success of one look."""
        return self.probability(features)

    @staticmethod
    def _embed(kernel: np.ndarray, features: np.ndarray) -> np.ndarray:
        first = features if features.ndim == 3 else features[0]
        channels = first.reshape(-1, first.shape[-1]).T.astype(np.float32)
        return np.matmul(channels[:, np.newaxis, :], kernel).reshape(-1)


def save_classifier(path: Path, params: Params, facts: ClassifierFacts) -> None:
    """Write a classifier, all or nothing.

    Raises:
        DataError: a weight is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, params, msgspec.to_builtins(facts))


def load_classifier(path: Path, *, encoder: str, task: TaskConfig) -> ActingClassifier:
    """Return the classifier of a file, if it belongs to this task, its cameras and this encoder.

    Args:
        encoder: identity of the frozen encoder in use.
        task: which may have more images than the classifier reads.

    Raises:
        DataError: there is no such file, or it is not a whole classifier of this version.
        ConfigError: it was trained for another task or rule, on other images, or with another encoder.
    """
    params, facts = read_classifier(path)
    if facts.task != task.name:
        raise ConfigError(
            f"classifier {path}: trained for task {facts.task!r}, this one is {task.name!r}; give --classifier one of "
            "this task"
        )
    if facts.frames != task.reward.frames:
        raise ConfigError(
            f"classifier {path}: its threshold was chosen for {facts.frames} frames in a row, RewardConfig.frames of "
            f"task {task.name!r} is {task.reward.frames}; set that to {facts.frames}, or train the classifier anew"
        )
    if facts.encoder != encoder:
        raise ConfigError(
            f"classifier {path}: trained on features of the encoder {facts.encoder}, this task uses {encoder}; "
            "train it anew from its frames with `serl classifier train`, or set EncoderConfig to the former"
        )
    require_images(f"classifier {path}", facts.image_shapes, facts.image_origins, task)
    return ActingClassifier(params, facts)


def read_classifier(path: Path) -> tuple[Params, ClassifierFacts]:
    """Return a file's weights and facts. Raises DataError as `load_classifier` does."""
    params = load_weights(path, REMEDY)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = msgspec.json.decode((file.metadata() or {})[FACTS], type=ClassifierFacts)
    except (KeyError, msgspec.MsgspecError, ConfigError) as error:
        raise DataError(f"{path}: not a classifier file ({error}); {REMEDY}") from None
    if facts.version != VERSION:
        raise DataError(f"{path}: classifier version {facts.version}, this program reads {VERSION}; {REMEDY}")
    check_weights(path, params, _expected(facts), REMEDY)
    return params, facts


def _expected(facts: ClassifierFacts) -> dict[str, Any]:
    blank = {name: np.zeros(shape, np.float16) for name, shape in facts.feature_shapes.items()}
    network = RewardClassifier(tuple(sorted(blank)), facts.config)
    expected: dict[str, Any] = jax.eval_shape(lambda: network.init(jax.random.key(0), blank)["params"])
    return expected
