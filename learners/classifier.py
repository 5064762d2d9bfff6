"""Trains a reward classifier: labelled frames in, `classifier.safetensors` and its report out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from numpy.typing import NDArray

from learners.classifier_report import ClassifierReport, Heights, all_labels, assess, threshold_for
from serl_core.agents.acting_classifier import ActingClassifier, ClassifierFacts, save_classifier
from serl_core.agents.policy import is_finite
from serl_core.agents.reward_classifier import ClassifierConfig, ClassifierTraining, with_prior
from serl_core.data.labelled_frames import LabelledFrames, count_labels
from serl_core.errors import ConfigError, DataError, LearningError
from serl_core.networks.augmentation import random_shift
from serl_core.networks.frozen import FrozenEncoder

logger = logging.getLogger(__name__)

CLASSIFIER = "classifier.safetensors"
ENCODE_BATCH = 64

Images = dict[str, NDArray[np.uint8]]  # [n h w 3] each
Features = dict[str, NDArray[np.float16]]  # [n fh fw fc] each


@dataclass(frozen=True, kw_only=True)
class ClassifierPlan:
    """How to train, and how to choose the threshold."""

    network: ClassifierConfig = field(default_factory=ClassifierConfig)
    frames: int = 2  # in a row, as the task's RewardConfig.frames
    tcp_z_m: Heights = None  # as the task's RewardConfig.tcp_z_m
    false_positive_rate: float = 0.01  # at most, of the negative validation frames
    validation_fraction: float = 0.3  # of the episodes
    copies: int = 2  # of each training image: the first as it is, the others shifted by a few pixels
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "copies"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ClassifierPlan.{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("false_positive_rate", "validation_fraction"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"ClassifierPlan.{name}: must be above 0 and below 1, got {getattr(self, name)}")


class Split(NamedTuple):
    """Episodes to train on, and episodes to choose the threshold and to score on."""

    training: list[LabelledFrames]
    validation: list[LabelledFrames]


class BatchEncoder:
    """The frozen encoder over many images, in batches of one size so that it is compiled once per image size."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.identity = encoder.identity
        self._encode = jax.jit(encoder.encode)
        self._shift = jax.jit(lambda images, key: random_shift(images, key=key))

    def __call__(self, images: Images, *, shift: jax.Array | None = None) -> Features:
        """Return the features of each image; with a random key, of each shifted by a few pixels."""
        return {
            name: np.concatenate([self._batch(stack, begin, shift) for begin in range(0, len(stack), ENCODE_BATCH)])
            for name, stack in images.items()
        }

    def _batch(self, stack: NDArray[np.uint8], begin: int, shift: jax.Array | None) -> NDArray[np.float16]:
        part = stack[begin : begin + ENCODE_BATCH]
        batch = np.zeros((ENCODE_BATCH, *stack.shape[1:]), np.uint8)
        batch[: len(part)] = part
        moved = batch if shift is None else self._shift(batch, jax.random.fold_in(shift, begin))
        return np.asarray(self._encode(moved))[: len(part)]


def train_classifier(
    episodes: Sequence[LabelledFrames], encoder: FrozenEncoder, plan: ClassifierPlan, folder: Path
) -> ClassifierReport:
    """Train a classifier, score it on episodes that it has not seen, and write both into `folder`.

    Raises:
        DataError: too few episodes of a kind, none with a success long enough for the rule, or no threshold reaches
            the false-positive rate; nothing is written.
        LearningError: the weights did not stay finite; nothing is written.
    """
    split = split_by_episode(episodes, plan.validation_fraction, seed=plan.seed)
    counts = count_labels(split.training)
    logger.info(
        "training on %d positive and %d negative frames of %d episodes, scoring on %d episodes; encoder %s",
        *counts,
        len(split.training),
        len(split.validation),
        encoder.identity,
    )
    fit_key, *shifts = jax.random.split(jax.random.key(plan.seed), plan.copies)
    encode, images = BatchEncoder(encoder), joined(split.training)
    copies = [encode(images), *(encode(images, shift=key) for key in shifts)]
    shapes = {name: (array.shape[1], array.shape[2], array.shape[3]) for name, array in copies[0].items()}
    params = with_prior(_fit(plan, shapes, copies, all_labels(split.training), key=fit_key), *counts)
    share = counts[0] / sum(counts)
    facts = ClassifierFacts(
        task=episodes[0].task,
        encoder=encoder.identity,
        image_shapes=episodes[0].image_shapes(),
        image_origins={name: episodes[0].origins[name] for name in shapes if name in episodes[0].origins},
        feature_shapes=shapes,
        config=plan.network,
        threshold=share,  # until the validation episodes are scored
        frames=plan.frames,
        metrics={},
    )
    probability = predict(ActingClassifier(params, facts), encode, split.validation)
    threshold = threshold_for(
        split.validation, probability, frames=plan.frames, target_rate=plan.false_positive_rate, least=share
    )
    report = assess(split.validation, probability, frames=plan.frames, threshold=threshold, tcp_z_m=plan.tcp_z_m)
    facts = msgspec.structs.replace(facts, threshold=threshold, metrics=msgspec.to_builtins(report))
    save_classifier(folder / CLASSIFIER, params, facts)
    report.write(folder)
    return report


def split_by_episode(episodes: Sequence[LabelledFrames], validation_fraction: float, *, seed: int) -> Split:
    """Return the episodes in two parts; those with a success and those without are each split in proportion.

    Frames of one episode are too alike: a validation frame whose neighbour was trained on says nothing.

    Raises:
        DataError: a part would lack positive or negative frames.
    """
    random = np.random.default_rng(seed)
    split = Split([], [])
    for has_success in (True, False):
        group = [episode for episode in episodes if bool(episode.is_success.any()) is has_success]
        count = round(validation_fraction * len(group))
        for place, index in enumerate(random.permutation(len(group))):
            (split.validation if place < count else split.training).append(group[index])
    for name, part in split._asdict().items():
        positives, negatives = count_labels(part)
        if not positives or not negatives:
            raise DataError(
                f"the {name} part, {len(part)} of {len(episodes)} episodes, has {positives} positive and {negatives} "
                "negative frames and needs both: record more episodes, or change ClassifierPlan.validation_fraction"
            )
    return split


def predict(
    classifier: ActingClassifier, encode: BatchEncoder, episodes: Sequence[LabelledFrames]
) -> NDArray[np.float64]:
    """Return the probability of success of every frame, one episode after the other, as the actor computes it."""
    images = joined(episodes)
    features = encode({name: images[name] for name in classifier.facts.image_shapes})
    count = len(next(iter(features.values())))
    return np.array([classifier.probability({n: f[i] for n, f in features.items()}) for i in range(count)])


def joined(episodes: Sequence[LabelledFrames]) -> Images:
    """Return the episodes' images one after the other."""
    return {name: np.concatenate([episode.images[name] for episode in episodes]) for name in episodes[0].images}


def _fit(
    plan: ClassifierPlan,
    shapes: dict[str, tuple[int, int, int]],
    copies: Sequence[Features],
    labels: NDArray[np.bool_],
    *,
    key: jax.Array,
) -> dict[str, Any]:
    training = ClassifierTraining(shapes, plan.network)
    state = training.init(key=key)
    random = np.random.default_rng(plan.seed)
    half = plan.network.batch_size // 2

    def draw(rows: NDArray[np.int64]) -> Features:
        row, copy = random.choice(rows, half), random.integers(len(copies), size=half)
        return {name: np.stack([copies[c][name][r] for c, r in zip(copy, row, strict=True)]) for name in shapes}

    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    for _ in range(plan.network.steps):
        state, loss = training.step(state, draw(positive), draw(negative))
    if not is_finite(state.params):
        raise LearningError("the classifier's weights did not stay finite; nothing was written. Lower learning_rate")
    logger.info("loss of the last batch %.4f", float(loss))
    params: dict[str, Any] = jax.tree.map(np.asarray, state.params)
    return params
