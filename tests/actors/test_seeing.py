import dataclasses

import jax
import msgspec
import numpy as np
import pytest

from actors.seeing import vision_for
from examples.ram_insertion import CONFIG
from serl_core.agents.acting_classifier import ClassifierFacts, save_classifier
from serl_core.agents.classifier_gate import MEASURE
from serl_core.agents.reward_classifier import ClassifierConfig, ClassifierTraining
from serl_core.config import ObservationConfig, RewardConfig, RewardKind
from serl_core.errors import ConfigError, DataError
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind, ImageMode
from serl_core.networks.perception import perception_for
from serl_core.statistics import Rate
from serl_core.testing.fakes import FakeRobot

JUDGED = RewardConfig(kind=RewardKind.CLASSIFIER)
SHAPES = {"wrist": (2, 2, 64)}


def task(reward=None, **encoder):
    observation = ObservationConfig(
        cameras=(CameraConfig(name="wrist", height=32, width=32),),
        encoder=EncoderConfig(kind=EncoderKind.RANDOM, **encoder),
    )
    return dataclasses.replace(CONFIG, observation=observation, reward=reward or CONFIG.reward)


def measured(count, total=200):
    """Return what `serl classifier train` writes of failures that the classifier took for successes."""
    return {MEASURE: msgspec.to_builtins(Rate.of(count, total))}


def classifier(folder, *, encoder=None, metrics=None):
    network = ClassifierConfig(embeddings=2, hidden=8)
    facts = ClassifierFacts(
        task="ram_insertion",
        encoder=encoder or perception_for(task()).frozen.identity,
        image_shapes={"wrist": (32, 32, 3)},
        image_origins=task().observation.image_origins,
        feature_shapes=SHAPES,
        config=network,
        threshold=0.7,
        frames=2,
        metrics=measured(0) if metrics is None else metrics,
    )
    params = ClassifierTraining(SHAPES, network).init(key=jax.random.key(0)).params
    save_classifier(folder / "classifier.safetensors", jax.tree.map(np.asarray, params), facts)
    return folder / "classifier.safetensors"


def look(task, **options):
    vision = vision_for(task, perception_for(task), **options)
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    robot.connect()
    vision.open(robot)
    sight = vision.look()
    vision.close()
    return vision, sight


def test_a_task_without_cameras_needs_no_vision():
    assert vision_for(CONFIG, perception_for(CONFIG)) is None


def test_a_task_with_a_camera_sees_features_and_judges_nothing():
    vision, sight = look(task())
    assert vision.success_threshold is None
    assert (sight.features["wrist"].shape, sight.success_probability) == (SHAPES["wrist"], None)
    assert sight.images["wrist"].shape == (32, 32, 3)


@pytest.mark.parametrize(("encoder", "copies"), [({"copies": 2}, (2,)), ({"copies": 2, "mode": ImageMode.PIXELS}, ())])
def test_copies_are_made_where_they_are_stored(encoder, copies):
    _, sight = look(task(**encoder))
    assert sight.features["wrist"].shape == (*copies, *SHAPES["wrist"])


def test_the_seed_decides_the_shifts_of_the_copies():
    one, again, other = (look(task(copies=2), seed=seed)[1].features["wrist"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize(
    "encoder", [{}, {"copies": 2}, {"mode": ImageMode.PIXELS}], ids=["features", "copies", "pixels"]
)
def test_the_classifier_judges_in_every_mode_and_alike(tmp_path, encoder):
    path = classifier(tmp_path)
    vision, sight = look(task(JUDGED, **encoder), classifier=path)
    _, plain = look(task(JUDGED), classifier=path)
    assert vision.success_threshold == 0.7
    assert sight.success_probability == pytest.approx(plain.success_probability, abs=1e-3)


def test_a_task_that_a_classifier_judges_says_where_to_get_one():
    with pytest.raises(ConfigError, match=r"'ram_insertion' asks for a classifier .*`serl classifier`.*--classifier"):
        vision_for(task(JUDGED), perception_for(task(JUDGED)))


@pytest.mark.parametrize("config", [task(), CONFIG], ids=["images", "state"])
def test_a_classifier_that_nobody_asks_for_is_refused(tmp_path, config):
    with pytest.raises(ConfigError, match="--classifier: the reward of task 'ram_insertion' is 'sim_truth'"):
        vision_for(config, perception_for(config), classifier=classifier(tmp_path))


def test_a_classifier_of_another_encoder_is_refused_with_both_names(tmp_path):
    config = task(JUDGED)
    perception = perception_for(config)
    with pytest.raises(ConfigError) as raised:
        vision_for(config, perception, classifier=classifier(tmp_path, encoder="small-cafe"))
    assert "small-cafe" in str(raised.value)
    assert perception.frozen.identity in str(raised.value)


def test_a_classifier_that_is_not_there_is_named(tmp_path):
    config = task(JUDGED)
    with pytest.raises(DataError, match=r"none\.safetensors"):
        vision_for(config, perception_for(config), classifier=tmp_path / "none.safetensors")


@pytest.mark.parametrize(("metrics", "words"), [(measured(3), "3 of 200"), ({}, "no episode without a success")])
def test_a_classifier_that_rewards_failures_is_refused_unless_it_is_wanted_all_the_same(tmp_path, metrics, words):
    config = task(JUDGED)
    path = classifier(tmp_path, metrics=metrics)
    with pytest.raises(ConfigError, match=rf"{words}.*--allow-poor-classifier"):
        vision_for(config, perception_for(config), classifier=path)
    vision = vision_for(config, perception_for(config), classifier=path, allow_poor_classifier=True)
    assert vision.success_threshold == 0.7
