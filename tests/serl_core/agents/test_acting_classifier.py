import jax
import msgspec
import numpy as np
import pytest

from serl_core.agents.acting_classifier import (
    ActingClassifier,
    ClassifierFacts,
    load_classifier,
    read_classifier,
    save_classifier,
)
from serl_core.agents.reward_classifier import ClassifierConfig, ClassifierTraining
from serl_core.errors import ConfigError, DataError
from serl_core.networks.weights import save_policy, save_weights

SHAPES = {"wrist": (2, 2, 4), "side": (2, 3, 4)}
IMAGES = {"wrist": (32, 32, 3), "side": (32, 48, 3)}
CONFIG = ClassifierConfig(embeddings=2, hidden=16)
ENCODER = "small-0123456789abcdef"
FACTS = ClassifierFacts(
    task="ram", encoder=ENCODER, image_shapes=IMAGES, feature_shapes=SHAPES, config=CONFIG, threshold=0.8, frames=2,
    metrics={"accuracy": 0.99},
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    training = ClassifierTraining(SHAPES, CONFIG)
    first = training.init(key=jax.random.key(0)).params
    random = np.random.default_rng(0)  # biases and scales too
    return jax.tree.map(lambda leaf: (leaf + random.normal(0, 0.3, leaf.shape)).astype(np.float32), first)


def features(*batch, seed=1):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(*batch, *shape)).astype(np.float16) for name, shape in SHAPES.items()}


def test_it_computes_what_the_network_does(params):
    network = ClassifierTraining(SHAPES, CONFIG).network
    acting = ActingClassifier(params, FACTS)
    for seed in range(20):
        some = features(seed=seed)
        expected = float(jax.nn.sigmoid(network.apply({"params": params}, some)))
        assert acting.probability(some) == pytest.approx(expected, abs=1e-5)
        assert acting.classify({}, some) == acting.probability(some)


def test_it_reads_the_first_of_shifted_copies_and_no_image_that_it_was_not_trained_on(params):
    acting, copies = ActingClassifier(params, FACTS), features(3)
    first = {name: array[0] for name, array in copies.items()}
    assert acting.probability({**copies, "other": np.zeros((1, 1, 1), np.float16)}) == acting.probability(first)


def test_a_far_logit_is_a_probability_of_0_or_1_without_overflow(params):
    def probability(bias):
        out = {**params["out"], "bias": np.float32([bias])}
        return ActingClassifier({**params, "out": out}, FACTS).probability(features())

    assert (probability(-2000.0), probability(2000.0)) == (0.0, 1.0)


def test_features_that_are_not_finite_are_no_success_and_are_logged_once(params, caplog):
    acting, broken = ActingClassifier(params, FACTS), features()
    broken["side"][0, 0, 0] = np.nan
    assert [acting.probability(broken) for _ in range(3)] == [0.0] * 3
    assert caplog.text.count("not finite") == 1
    assert acting.probability(features()) > 0.0


def test_a_file_gives_back_what_was_saved(params, tmp_path):
    path = tmp_path / "new" / "classifier.safetensors"
    save_classifier(path, params, FACTS)
    read, facts = read_classifier(path)
    assert facts == FACTS
    assert jax.tree.all(jax.tree.map(np.array_equal, read, params))
    acting = load_classifier(path, encoder=ENCODER, image_shapes={**IMAGES, "more": (16, 16, 3)})
    assert acting.threshold == 0.8
    assert acting.probability(features()) == ActingClassifier(params, FACTS).probability(features())


@pytest.mark.parametrize(
    ("encoder", "images", "words"),
    [
        ("random-ffff", IMAGES, f"of the encoder {ENCODER}, this task uses random-ffff; train it anew"),
        (ENCODER, {"wrist": (32, 32, 3)}, r"reads the image 'side' of shape \(32, 48, 3\), the task has only"),
        (ENCODER, {**IMAGES, "wrist": (64, 64, 3)}, r"'wrist' of shape \(32, 32, 3\), the task has \(64, 64, 3\)"),
    ],
)
def test_a_classifier_of_other_cameras_or_another_encoder_is_refused(params, tmp_path, encoder, images, words):
    save_classifier(tmp_path / "c.safetensors", params, FACTS)
    with pytest.raises(ConfigError, match=words):
        load_classifier(tmp_path / "c.safetensors", encoder=encoder, image_shapes=images)


def test_a_file_that_is_not_there_or_not_a_classifier_is_refused(params, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(DataError, match=r"no such file.*'serl classifier train' writes one"):
        read_classifier(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a safetensors file"):
        read_classifier(path)
    save_policy(path, params, {"task_digest": "0"})
    with pytest.raises(DataError, match="not a classifier file"):
        read_classifier(path)


def test_a_file_of_another_version_or_with_other_weights_than_it_says_is_refused(params, tmp_path):
    path = tmp_path / "c.safetensors"
    save_classifier(path, params, msgspec.structs.replace(FACTS, version=99))
    with pytest.raises(DataError, match="version 99, this program reads 1"):
        read_classifier(path)
    save_classifier(path, params, msgspec.structs.replace(FACTS, config=ClassifierConfig(embeddings=3, hidden=16)))
    with pytest.raises(DataError, match="weights of another network"):
        read_classifier(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"steps": 0}}, "steps: must be at least 1"),
        ({"threshold": 1.5}, r"threshold 1\.5 is not above 0"),
        ({"image_shapes": {"wrist": (32, 32, 3)}}, r"features of \['side', 'wrist'\] for images \['wrist'\]"),
        ({"frames": "two"}, "frames"),
    ],
)
def test_a_file_whose_facts_contradict_themselves_is_refused(params, tmp_path, change, words):
    path = tmp_path / "c.safetensors"
    save_weights(path, params, {**msgspec.to_builtins(FACTS), **change})
    with pytest.raises(DataError, match=rf"not a classifier file .*{words}"):
        read_classifier(path)


def test_weights_that_are_not_finite_are_not_written(params, tmp_path):
    path = tmp_path / "c.safetensors"
    broken = {**params, "out": {**params["out"], "bias": np.float32([np.inf])}}
    with pytest.raises(DataError, match="out/bias"):
        save_classifier(path, broken, FACTS)
    assert not path.exists()
