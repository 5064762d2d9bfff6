import dataclasses
import json

import jax
import numpy as np
import pytest

from examples.ram_insertion import CONFIG
from learners.classifier import (
    CLASSIFIER,
    ENCODE_BATCH,
    BatchEncoder,
    ClassifierPlan,
    predict,
    split_by_episode,
    train_classifier,
)
from learners.classifier_report import RELIABILITY, REPORT
from serl_core.agents.acting_classifier import load_classifier
from serl_core.agents.reward_classifier import ClassifierConfig
from serl_core.config import ObservationConfig
from serl_core.data.labelled_frames import LabelledFrames, load_folders, save_labelled
from serl_core.errors import ConfigError, DataError, LearningError
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind
from serl_core.networks.frozen import load_encoder

SIDE = 32
PLAN = ClassifierPlan(network=ClassifierConfig(embeddings=2, hidden=32, batch_size=32, steps=60, learning_rate=3e-3))
CAMERAS = tuple(CameraConfig(name=name, height=SIDE, width=SIDE) for name in ("side", "wrist"))
TASK = dataclasses.replace(CONFIG, observation=ObservationConfig(cameras=CAMERAS))


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(EncoderConfig(kind=EncoderKind.RANDOM))


def episode(labels, seed, names=("wrist",)):
    """Return pictures of noise; where the label says success, with a bright upper half."""
    random = np.random.default_rng(seed)
    success = np.array([letter == "#" for letter in labels])
    images = {}
    for name in names:
        stack = random.integers(0, 120, (len(labels), SIDE, SIDE, 3), np.uint8)
        stack[success, : SIDE // 2] += 100
        images[name] = stack
    return LabelledFrames(
        TASK.name,
        images,
        success,
        np.arange(len(labels)),
        np.zeros((len(labels), 7)),
        origins=TASK.observation.image_origins,
    )


def recorded(count=12, **options):
    return [episode("......###" if i % 3 else ".......", i, **options) for i in range(count)]


def test_it_learns_from_some_episodes_what_it_is_scored_on_with_others(encoder, tmp_path):
    report = train_classifier(recorded(names=("side", "wrist")), encoder, PLAN, tmp_path)
    assert report.single.accuracy.rate > 0.97
    assert report.in_a_row.false_positive.count == 0
    classifier = load_classifier(tmp_path / CLASSIFIER, encoder=encoder.identity, task=TASK)
    assert classifier.threshold == report.threshold
    fresh = [episode("..##", 99, names=("side", "wrist"))]
    probability = predict(classifier, BatchEncoder(encoder), fresh)
    np.testing.assert_array_equal(probability >= classifier.threshold, fresh[0].is_success)
    facts = classifier.facts
    assert (facts.task, facts.frames, facts.config) == (TASK.name, PLAN.frames, PLAN.network)
    written = json.loads((tmp_path / REPORT).read_text())
    assert facts.metrics == {name: value for name, value in written.items() if name != "confusion"}
    assert sum(written["confusion"]["single"].values()) == written["single"]["accuracy"]["total"]
    assert (tmp_path / RELIABILITY).read_bytes().startswith(b"\x89PNG")


def test_training_is_the_same_for_the_same_seed(encoder, tmp_path):
    for name in ("a", "b"):
        train_classifier(recorded(), encoder, PLAN, tmp_path / name)
    assert (tmp_path / "a" / CLASSIFIER).read_bytes() == (tmp_path / "b" / CLASSIFIER).read_bytes()


def test_frames_read_from_the_disk_train_the_same(encoder, tmp_path):
    for i, frames in enumerate(recorded()):
        save_labelled(tmp_path / "data" / f"{i:02d}.safetensors", frames)
    train_classifier(recorded(), encoder, PLAN, tmp_path / "a")
    train_classifier(load_folders([tmp_path / "data"]), encoder, PLAN, tmp_path / "b")
    assert (tmp_path / "a" / CLASSIFIER).read_bytes() == (tmp_path / "b" / CLASSIFIER).read_bytes()


def test_the_threshold_keeps_the_false_positive_rate_even_when_labels_mean_nothing(encoder, tmp_path):
    alike = [episode("#" * 9, i)._replace(is_success=np.arange(9) % 2 == 0) for i in range(12)]
    plan = ClassifierPlan(network=PLAN.network, frames=1, false_positive_rate=0.001)
    report = train_classifier(alike, encoder, plan, tmp_path)
    assert report.single.false_positive.count == 0
    assert report.single.false_negative.rate > 0.5


def test_weights_that_do_not_stay_finite_are_not_written(encoder, tmp_path):
    plan = ClassifierPlan(network=ClassifierConfig(hidden=8, embeddings=1, steps=4, batch_size=4, learning_rate=1e38))
    with pytest.raises(LearningError, match="did not stay finite; nothing was written"):
        train_classifier(recorded(), encoder, plan, tmp_path)
    assert not list(tmp_path.iterdir())


def test_successes_too_short_for_the_rule_are_refused_and_nothing_is_written(encoder, tmp_path):
    """The threshold was then chosen by the negative frames alone, and the rule could never fire."""
    short = [episode("......#.." if i % 3 else ".......", i) for i in range(12)]
    with pytest.raises(DataError, match=r"has 2 positive frames in a row \(RewardConfig.frames\)"):
        train_classifier(short, encoder, PLAN, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_episode_is_both_trained_and_scored_on_and_each_kind_is_split():
    episodes = recorded(30)
    split = split_by_episode(episodes, 0.3, seed=4)
    assert sorted(map(id, split.training + split.validation)) == sorted(map(id, episodes))
    assert len(split.validation) == 9
    assert sum(frames.is_success.any() for frames in split.validation) == 6
    other = split_by_episode(episodes, 0.3, seed=5)
    assert list(map(id, other.validation)) != list(map(id, split.validation))


@pytest.mark.parametrize("episodes", [recorded(2), [episode(".....", i) for i in range(9)], [episode("..##", 0)]])
def test_too_few_episodes_of_a_kind_are_refused(episodes):
    with pytest.raises(DataError, match="needs both: record more episodes"):
        split_by_episode(episodes, 0.3, seed=0)


def test_batches_give_the_features_of_each_image_by_itself(encoder):
    images = {"wrist": episode("." * (ENCODE_BATCH + 3), 0).images["wrist"]}
    features = BatchEncoder(encoder)(images)["wrist"]
    assert features.dtype == np.float16
    assert len(features) == ENCODE_BATCH + 3
    single = np.asarray(encoder.encode(images["wrist"][-2:]))
    np.testing.assert_allclose(features[-2:].astype(np.float32), single.astype(np.float32), atol=2e-2)


def test_shifted_copies_differ_from_the_images_and_from_each_other(encoder):
    images, encode = {"wrist": episode("...", 0).images["wrist"]}, BatchEncoder(encoder)
    plain, first, second = encode(images), *(encode(images, shift=jax.random.key(i)) for i in range(2))
    assert not np.array_equal(plain["wrist"], first["wrist"])
    assert not np.array_equal(first["wrist"], second["wrist"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frames": 0}, "frames: must be at least 1, got 0"),
        ({"copies": 0}, "copies: must be at least 1, got 0"),
        ({"false_positive_rate": 0.0}, "false_positive_rate: must be above 0 and below 1"),
        ({"validation_fraction": float("nan")}, "validation_fraction: must be above 0 and below 1, got nan"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        ClassifierPlan(**values)
