import dataclasses

import jax
import msgspec
import numpy as np
import pytest

from examples.ram_insertion import CONFIG as TASK
from serl_core.agents.acting_classifier import (
    ActingClassifier,
    ClassifierFacts,
    load_classifier,
    read_classifier,
    save_classifier,
)
from serl_core.agents.reward_classifier import ClassifierConfig, ClassifierTraining
from serl_core.config import ObservationConfig, RewardConfig
from serl_core.errors import ConfigError, DataError
from serl_core.image_config import CameraConfig, CameraSource, Crop
from serl_core.networks.weights import save_policy, save_weights

SHAPES = {"wrist": (2, 2, 4), "side": (2, 3, 4)}
IMAGES = {"wrist": (32, 32, 3), "side": (32, 48, 3)}
CONFIG = ClassifierConfig(embeddings=2, hidden=16)
CROP = Crop(name="wrist", left=1, top=2, width=9, height=8)
ENCODER = "small-0123456789abcdef"


def seen(*more, rule=2, name="ram", **wrist):
    """Return a task with the cameras of `IMAGES`; `wrist` changes that one."""
    cameras = (
        CameraConfig(**({"name": "wrist", "height": 32, "width": 32} | wrist)),
        CameraConfig(name="side", height=32, width=48),
        *more,
    )
    observation = ObservationConfig(cameras=cameras)
    return dataclasses.replace(TASK, name=name, observation=observation, reward=RewardConfig(frames=rule))


FACTS = ClassifierFacts(
    task="ram", encoder=ENCODER, image_shapes=IMAGES, image_origins=seen().observation.image_origins,
    feature_shapes=SHAPES, config=CONFIG, threshold=0.8, frames=2, metrics={"accuracy": 0.99},
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
    acting = load_classifier(path, encoder=ENCODER, task=seen(CameraConfig(name="more")))
    assert acting.threshold == 0.8
    assert acting.probability(features()) == ActingClassifier(params, FACTS).probability(features())


@pytest.mark.parametrize(
    ("encoder", "task", "words"),
    [
        ("random-ffff", seen(), f"of the encoder {ENCODER}, this task uses random-ffff; train it anew"),
        (ENCODER, seen(name="usb"), "trained for task 'ram', this one is 'usb'"),
        (ENCODER, seen(rule=3), "chosen for 2 frames in a row, RewardConfig.frames of task 'ram' is 3"),
        (ENCODER, TASK, "trained for task 'ram', this one is 'ram_insertion'"),
        (ENCODER, seen(name="ram", height=64, width=64), r"'wrist' is \(32, 32, 3\) .*has it as \(64, 64, 3\)"),
        (ENCODER, seen(source=CameraSource.UVC), r"from wrist \(robot\), as 32x32; .* from wrist \(uvc\), as 32x32"),
        (
            ENCODER,
            seen(crops=(CROP,)),
            r"from wrist \(robot\), as 32x32; .* from wrist \(robot\), 9x8 at 1,2, as 32x32",
        ),
        (ENCODER, dataclasses.replace(TASK, name="ram"), r"its image 'wrist' .*task 'ram' has \[\]"),
    ],
)
def test_a_classifier_of_another_task_rule_camera_or_encoder_is_refused(params, tmp_path, encoder, task, words):
    """One whose crop had been moved, or trained for another task with alike cameras, judged without a word."""
    save_classifier(tmp_path / "c.safetensors", params, FACTS)
    with pytest.raises(ConfigError, match=words):
        load_classifier(tmp_path / "c.safetensors", encoder=encoder, task=task)


def test_a_classifier_that_does_not_know_its_cameras_is_refused(params, tmp_path):
    save_classifier(tmp_path / "c.safetensors", params, msgspec.structs.replace(FACTS, image_origins={}))
    with pytest.raises(ConfigError, match="from unknown"):
        load_classifier(tmp_path / "c.safetensors", encoder=ENCODER, task=seen())


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
