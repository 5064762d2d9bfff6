import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from serl_core.agents.policy import ActingPolicy, PolicyConfig, TanhGaussianPolicy
from serl_core.errors import ConfigError, DataError
from serl_core.types import Observation
from tests.serl_core.agents.toy import SPEC

CONFIG = PolicyConfig(hidden=(32, 24))
POLICY = TanhGaussianPolicy(SPEC, CONFIG)


def random_params(seed):
    """Parameters in which no scale is one and no bias zero."""
    params = POLICY.init(key=jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape, np.float32), params)


def observations(seed, count):
    rng = np.random.default_rng(seed)
    return [Observation(proprio=3 * rng.standard_normal(2).astype(np.float32)) for _ in range(count)]


def acting(seed=0, params_seed=1):
    policy = ActingPolicy(SPEC, CONFIG, seed)
    policy.load(random_params(params_seed))
    return policy


def test_numpy_and_jax_compute_the_same_policy():
    for seed in range(5):
        params = random_params(seed)
        policy = ActingPolicy(SPEC, CONFIG, 0)
        policy.load(params)
        for observation in observations(seed, 10):
            np.testing.assert_allclose(policy.mode(observation), POLICY.mode(params, observation), atol=2e-6)
            for ours, theirs in zip(
                policy.distribution(observation),
                POLICY.distribution(params, jnp.asarray(observation.proprio)),
                strict=True,
            ):
                np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_numpy_and_jax_read_features_alike():
    shapes = {"side_1": (2, 3, 4), "wrist": (4, 4, 5)}
    spec = dataclasses.replace(SPEC, feature_shapes=shapes)
    policy, acting_policy = TanhGaussianPolicy(spec, CONFIG), ActingPolicy(spec, CONFIG, 0)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape, np.float32),
        policy.init(key=jax.random.key(0)),
    )
    acting_policy.load(params)
    for observation in observations(0, 10):
        features = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
        seen = observation._replace(features=features)
        np.testing.assert_allclose(acting_policy.mode(seen), policy.mode(params, seen), atol=1e-5)
        changed = seen._replace(features=features | {"wrist": features["wrist"] + np.float16(1.0)})
        assert np.abs(acting_policy.mode(changed) - acting_policy.mode(seen)).max() > 1e-4


def test_a_sample_is_the_squashed_gaussian_of_the_distribution():
    policy, observation = acting(), observations(0, 1)[0]
    mean, log_std = policy.distribution(observation)
    raw = np.arctanh(np.array([policy.sample(observation) for _ in range(4000)], np.float64))
    np.testing.assert_allclose(raw.mean(0), mean, atol=4 * np.exp(log_std).max() / np.sqrt(4000))
    np.testing.assert_allclose(raw.std(0), np.exp(log_std), rtol=0.06)


def test_the_seed_decides_every_sample():
    observation = observations(0, 1)[0]
    first, second, other = acting(seed=3), acting(seed=3), acting(seed=4)
    samples = [[policy.sample(observation).item() for _ in range(5)] for policy in (first, second, other)]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    assert len(set(samples[0])) == 5


def test_acting_changes_neither_the_observation_nor_the_weights():
    params, observation = random_params(1), observations(0, 1)[0]
    before = jax.tree.map(np.copy, (params, observation))
    policy = ActingPolicy(SPEC, CONFIG, 0)
    policy.load(params)
    policy.sample(observation)
    jax.tree.map(np.testing.assert_array_equal, (params, observation), before)


def test_loaded_weights_do_not_follow_later_changes_of_the_tree():
    params, observation = random_params(1), observations(0, 1)[0]
    policy = ActingPolicy(SPEC, CONFIG, 0)
    policy.load(params)
    before = policy.mode(observation)
    params["mlp"]["out"]["bias"] += 1.0
    np.testing.assert_array_equal(policy.mode(observation), before)


def test_refused_weights_leave_the_ones_from_before():
    policy, observation = acting(), observations(0, 1)[0]
    before = policy.mode(observation)
    broken = random_params(2)
    broken["mlp"]["norm_1"]["scale"][3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        policy.load(broken)
    with pytest.raises(DataError, match="another network"):
        policy.load(TanhGaussianPolicy(SPEC, PolicyConfig(hidden=(8,))).init(key=jax.random.key(0)))
    np.testing.assert_array_equal(policy.mode(observation), before)


def test_a_policy_without_weights_does_not_act():
    policy = ActingPolicy(SPEC, CONFIG, 0)
    assert not policy.is_loaded
    with pytest.raises(AssertionError, match="load"):
        policy.mode(observations(0, 1)[0])


def test_log_prob_is_the_density_of_the_squashed_action():
    params = random_params(0)
    observation = Observation(proprio=np.array([[0.3, -0.2]], np.float32))
    action, log_prob = POLICY.sample_with_log_prob(params, jnp.asarray(observation.proprio), key=jax.random.key(5))
    mean, log_std = POLICY.distribution(params, jnp.asarray(observation.proprio))
    raw = np.arctanh(np.asarray(action, np.float64))
    gaussian = -0.5 * ((raw - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    expected = (gaussian - np.log(1 - np.asarray(action, np.float64) ** 2)).sum(-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)


def test_log_prob_stays_finite_at_the_edge_of_the_action_range():
    params = random_params(0)
    params["mlp"]["out"]["bias"] += 50.0  # tanh is 1 to the last bit
    observation = Observation(proprio=np.zeros((4, 2), np.float32))

    def total(params):
        return POLICY.sample_with_log_prob(params, jnp.asarray(observation.proprio), key=jax.random.key(0))[1].sum()

    value, gradient = jax.value_and_grad(total)(params)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_log_std_stays_within_its_bounds():
    params = random_params(0)
    for push in (-100.0, 100.0):
        params["mlp"]["out"]["bias"] += push
        _, log_std = POLICY.distribution(params, jnp.asarray(observations(0, 1)[0].proprio))
        assert (log_std >= CONFIG.log_std_min).all()
        assert (log_std <= CONFIG.log_std_max).all()


@pytest.mark.parametrize("wrong", [{"hidden": ()}, {"hidden": (0,)}, {"log_std_min": 2.0}, {"log_std_max": np.nan}])
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match="PolicyConfig"):
        PolicyConfig(**wrong)
