from functools import cache

import jax
import numpy as np
import pytest

from serl_core.agents.reward_classifier import ClassifierConfig, ClassifierTraining, with_prior
from serl_core.errors import ConfigError

SHAPES = {"wrist": (2, 2, 4), "side": (2, 3, 4)}
SMALL = ClassifierConfig(embeddings=2, hidden=16, learning_rate=1e-2, batch_size=32)


def features(count, level, seed=0):
    random = np.random.default_rng(seed)
    return {name: (random.normal(size=(count, *shape)) + level).astype(np.float16) for name, shape in SHAPES.items()}


@cache
def train(steps=60, again=0):
    training = ClassifierTraining(SHAPES, SMALL)
    state, losses = training.init(key=jax.random.key(0)), []
    for step in range(steps):
        state, loss = training.step(state, features(16, 0.7, 2 * step), features(16, -0.7, 2 * step + 1))
        losses.append(float(loss))
    return training, state, losses


def logits(training, params, level):
    return np.asarray(training.network.apply({"params": params}, features(200, level, 999)))


def test_it_learns_to_tell_two_kinds_of_features_apart():
    training, state, losses = train()
    assert np.mean(losses[:3]) > 3 * np.mean(losses[-3:])
    assert (logits(training, state.params, 0.7) > 0).mean() > 0.97
    assert (logits(training, state.params, -0.7) < 0).mean() > 0.97


def test_training_is_the_same_for_the_same_seed():
    first, second = train(3, again=0)[1], train(3, again=1)[1]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first.params, second.params))


def test_dropout_acts_in_training_only():
    training = ClassifierTraining(SHAPES, ClassifierConfig(embeddings=2, hidden=16, dropout=0.5))
    params = training.init(key=jax.random.key(0)).params
    some = features(4, 0.0)
    calm = [training.network.apply({"params": params}, some) for _ in range(2)]
    shaken = [
        training.network.apply({"params": params}, some, is_training=True, rngs={"dropout": jax.random.key(i)})
        for i in range(2)
    ]
    np.testing.assert_array_equal(*calm)
    assert not np.allclose(*shaken)


def test_each_image_counts():
    training, state, _ = train()
    some = features(8, 0.7)
    whole = training.network.apply({"params": state.params}, some)
    for name in SHAPES:
        without = training.network.apply({"params": state.params}, {**some, name: np.zeros_like(some[name])})
        assert np.abs(np.asarray(whole - without)).max() > 0.1


def test_the_prior_moves_every_logit_by_the_logarithm_of_the_odds():
    training, state, _ = train()
    moved = with_prior(state.params, 200, 1000)
    np.testing.assert_allclose(
        logits(training, moved, 0.0), logits(training, state.params, 0.0) - np.log(5.0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"hidden": -1}, "hidden: must be at least 1"),
        ({"embeddings": 0}, "embeddings: must be at least 1"),
        ({"batch_size": 3}, "batch_size: must be even and at least 2, got 3"),
        ({"batch_size": 0}, "batch_size: must be even and at least 2, got 0"),
        ({"dropout": 1.0}, "dropout: must be at least 0 and below 1"),
        ({"learning_rate": float("nan")}, "learning_rate: must be above 0, got nan"),
    ],
)
def test_a_config_that_cannot_work_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        ClassifierConfig(**values)
