import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from serl_core.agents.policy import ActingPolicy
from serl_core.agents.sac import Sac, SacConfig
from serl_core.errors import ConfigError
from tests.serl_core.agents.toy import SPEC, TIME_LIMIT, Line, batch, config

SHAPE = (4, 64)
AGENT = Sac(SPEC, config())


def start(agent=AGENT, seed=0):
    return agent.init(key=jax.random.key(seed))


def frozen(state):
    """A copy that outlives the update that uses up `state`."""
    return jax.tree.map(np.array, state._replace(key=jax.random.key_data(state.key)))


def is_same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def learn_line(agent, env_steps):
    """Act, store, update, in turn; return the state."""
    line, rng = Line(seed=0), np.random.default_rng(0)
    policy, state, seen = ActingPolicy(SPEC, agent.config.policy, seed=0), start(agent), []
    for step in range(env_steps):
        policy.load(jax.device_get(agent.policy_params(state)))
        seen.append(line.step(policy.sample(line.observe())))
        if step >= 50:
            picks = rng.integers(len(seen), size=(agent.config.utd_ratio, agent.config.batch_size))
            rows = [[seen[i]._replace(provenance=None) for i in row] for row in picks]
            stacked = [jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *row) for row in rows]
            state, _ = agent.update(state, jax.tree.map(lambda *leaves: np.stack(leaves), *stacked))
    return state


def success_rate(params, trials=20):
    policy = ActingPolicy(SPEC, AGENT.config.policy, seed=0)
    policy.load(jax.device_get(params))
    line, successes = Line(seed=99), 0
    for _ in range(trials):
        for _ in range(TIME_LIMIT):
            transition = line.step(policy.mode(line.observe()))
            if transition.end:
                break
        successes += transition.reward > 0
    return successes / trials


def test_solves_a_toy_world():
    state = learn_line(AGENT, 400)
    assert success_rate(AGENT.policy_params(start())) < 0.8
    assert success_rate(AGENT.policy_params(state)) == 1.0
    assert success_rate(AGENT.final_policy_params(state)) == 1.0


def test_values_at_a_time_limit_bootstrap_and_at_a_success_do_not():
    """With reward 1 everywhere: 1 / (1 - gamma) where life goes on, 1 where it ends."""
    agent = Sac(SPEC, config(gamma=0.5, tau=0.1, learning_rate=3e-3, utd_ratio=20))
    rng = np.random.default_rng(0)
    is_end = rng.random((20, 64)) < 0.5
    proprio = np.stack([np.where(is_end, -1.0, 1.0), np.ones_like(is_end)], -1).astype(np.float32)
    on = np.ones_like(proprio)
    data = batch(0, (20, 64))
    data = data._replace(
        observation=data.observation._replace(proprio=proprio),
        next_observation=data.observation._replace(proprio=on),
        reward=np.ones((20, 64), np.float32),
        discount=np.where(is_end, 0.0, 1.0).astype(np.float32),
    )
    state = start(agent)
    for _ in range(60):
        state, _ = agent.update(state, data)
    first = jax.tree.map(lambda leaf: leaf[0], data._replace(provenance=None))
    q = agent.q(state.critic, first.observation, jnp.asarray(first.action))
    np.testing.assert_allclose(q[:, is_end[0]], 1.0, atol=0.15)
    np.testing.assert_allclose(q[:, ~is_end[0]], 2.0, atol=0.15)


def test_ensemble_members_are_strangers_in_every_layer():
    params = start().critic
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert leaf.shape[0] == AGENT.config.critics
        if path[-1].key == "kernel":
            assert not np.array_equal(leaf[0], leaf[1]), path


def test_a_critic_s_gradient_does_not_reach_another_one():
    params = start().critic
    observation, action = batch(0, (8,)).observation, jnp.asarray(batch(0, (8,)).action)

    def first(params):
        return AGENT.q(params, observation, action)[0].sum()

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(first)(params)):
        assert np.abs(gradient[0]).max() > 0, path
        assert np.abs(gradient[1]).max() == 0, path


def test_the_same_seed_and_batches_give_the_same_bits():
    states = []
    for _ in range(2):
        state = start()
        for i in range(3):
            state, _ = AGENT.update(state, batch(i, SHAPE))
        states.append(frozen(state))
    assert is_same(*states)
    other, _ = AGENT.update(start(seed=1), batch(0, SHAPE))
    assert not is_same(states[0].policy, frozen(other).policy)


def test_one_update_moves_every_network_and_uses_a_new_key():
    before = frozen(start())
    after = frozen(AGENT.update(start(), batch(0, SHAPE))[0])
    for name in ("key", "policy", "critic", "target_critic", "log_temperature"):
        assert not is_same(getattr(before, name), getattr(after, name)), name
    assert after.policy_updates == 1


def test_each_optimizer_holds_only_its_own_network():
    state = start()
    for network, optimizer in (
        (state.policy, state.policy_optimizer),
        (state.critic, state.critic_optimizer),
        (state.log_temperature, state.temperature_optimizer),
    ):
        assert jax.tree.structure(optimizer[0].mu) == jax.tree.structure(network)
        assert jax.tree.map(jnp.shape, optimizer[0].mu) == jax.tree.map(jnp.shape, network)


def test_target_critics_follow_by_tau():
    agent = Sac(SPEC, config(tau=0.25, utd_ratio=1))
    before = frozen(start(agent))
    after = frozen(agent.update(start(agent), batch(0, (1, 64)))[0])
    expected = jax.tree.map(lambda old, new: old + 0.25 * (new - old), before.target_critic, after.critic)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.target_critic, expected)


def test_a_batch_that_is_not_finite_moves_nothing_despite_adam_s_momentum():
    """Earlier systems froze networks by a zero loss, and momentum still moved them."""
    state, _ = AGENT.update(start(), batch(0, SHAPE))
    before = frozen(state)
    broken = batch(1, SHAPE)
    broken.observation.proprio[..., 0] = np.nan
    after, metrics = AGENT.update(state, broken)
    after = frozen(after)
    for name in set(before._fields) - {"key", "skipped", "skipped_in_a_row"}:
        assert is_same(getattr(before, name), getattr(after, name)), name
    assert after.skipped == metrics.values["skipped"] == SHAPE[0] + 1
    np.testing.assert_array_equal(after.skipped_in_a_row, [SHAPE[0], 1])
    assert metrics.values["skipped_in_a_row"] == SHAPE[0]


def test_good_updates_of_the_policy_do_not_hide_broken_critics():
    state = start()
    for i in range(3):
        state, metrics = AGENT.update(state, batch(i, SHAPE, reward=np.full(SHAPE, np.inf, np.float32)))
    assert metrics.values["skipped_in_a_row"] == 3 * SHAPE[0]
    assert state.policy_updates == 3


@pytest.mark.parametrize("field", ["reward", "next_observation", "action"])
def test_one_broken_update_is_skipped_and_the_others_count(field):
    broken = batch(1, SHAPE)
    array = broken.next_observation.proprio if field == "next_observation" else getattr(broken, field)
    array[1, 5] = np.inf if field == "reward" else np.nan
    state, _ = AGENT.update(start(), broken)
    assert state.skipped == 1
    assert not state.skipped_in_a_row.any()
    assert not is_same(frozen(state).critic, frozen(start()).critic)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(frozen(state)))


def test_averaged_policy_is_the_mean_then_forgets_beyond_its_horizon():
    agent = Sac(SPEC, config(average_horizon=3))
    state, policies = start(agent), []
    for i in range(3):
        state, _ = agent.update(state, batch(i, SHAPE))
        policies.append(frozen(state).policy)
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *policies)
    averaged = frozen(state).averaged_policy
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), averaged, mean)
    state, _ = agent.update(state, batch(3, SHAPE))
    expected = jax.tree.map(lambda old, new: old + (new - old) / 3, averaged, frozen(state).policy)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), frozen(state).averaged_policy, expected
    )


def test_large_ensembles_take_their_target_from_a_random_pair():
    """One of ten critics values everything at -100. A minimum over all ten would always see it."""
    agent = Sac(SPEC, config(critics=10, utd_ratio=40))
    state = start(agent)
    target = jax.tree.map(np.array, state.target_critic)
    target["mlp"]["out"]["bias"][7] -= 100.0
    state = state._replace(target_critic=jax.tree.map(jnp.asarray, target))
    _, metrics = agent.update(state, batch(0, (40, 64)))
    share = -float(metrics.values["target_q_mean"]) / (100.0 * agent.config.gamma)
    assert 0.02 < share < 0.5  # a pair of ten holds a given one in a fifth of the draws


IMAGE_SPEC = dataclasses.replace(SPEC, feature_shapes={"wrist": (4, 4, 3)})
IMAGE_AGENT = Sac(IMAGE_SPEC, config())


def image_batch(seed, shape):
    """A batch whose features say all that its proprioception does not."""
    rng = np.random.default_rng(seed)
    data = batch(seed, shape)
    look = {"wrist": rng.standard_normal((*shape, 4, 4, 3)).astype(np.float16)}
    return data._replace(
        observation=data.observation._replace(features=look),
        next_observation=data.next_observation._replace(features=look),
    )


def test_the_critics_train_the_encoder_and_the_policy_reads_it():
    before = frozen(start(IMAGE_AGENT))
    state, metrics = IMAGE_AGENT.update(start(IMAGE_AGENT), image_batch(0, SHAPE))
    after = frozen(state)
    assert not is_same(after.critic["encoder"], before.critic["encoder"])
    assert set(after.policy) == {"mlp"}
    assert is_same(IMAGE_AGENT.policy_params(after)["encoder"], after.critic["encoder"])
    assert set(IMAGE_AGENT.final_policy_params(after)) == {"mlp", "encoder"}
    assert np.isfinite(float(metrics.values["critic_loss"]))


def test_the_policy_s_loss_does_not_reach_the_encoder():
    state = start(IMAGE_AGENT)
    params = IMAGE_AGENT.policy_params(state)
    observation = jax.tree.map(jnp.asarray, image_batch(0, (8,)).observation)
    gradient = jax.grad(lambda p: IMAGE_AGENT.policy.mode(p, observation).sum())(params)
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradient["encoder"]))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["mlp"]))


def test_the_target_follows_the_encoder_too():
    before = frozen(start(IMAGE_AGENT))
    after = frozen(IMAGE_AGENT.update(start(IMAGE_AGENT), image_batch(0, SHAPE))[0])
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.target_critic["encoder"], before.critic["encoder"])
    full = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.critic["encoder"], before.critic["encoder"])
    for part, whole in zip(jax.tree.leaves(moved), jax.tree.leaves(full), strict=True):
        assert 0 < part < whole


def test_images_are_encoded_once_in_an_update_and_learnt_from():
    """The frozen network here is a plain reduction: its calls are counted while the update is traced."""
    calls = []

    def shrink(images):
        calls.append(images.shape)
        return (images.reshape(*images.shape[:-3], 4, 2, 4, 2, 3).mean((-4, -2)) / 255).astype(jnp.float16)

    agent = Sac(IMAGE_SPEC, config(), shrink)
    data = batch(0, SHAPE)
    images = {"wrist": np.random.default_rng(0).integers(0, 255, (*SHAPE, 8, 8, 3), np.uint8)}
    data = data._replace(
        observation=data.observation._replace(images=images),
        next_observation=data.next_observation._replace(images=images),
    )
    before = frozen(start(agent))
    state, metrics = agent.update(start(agent), data)
    assert calls == [(SHAPE[1], 8, 8, 3)] * 2  # once per observation of an update, all updates by one trace
    assert not is_same(frozen(state).critic["encoder"], before.critic["encoder"])
    assert np.isfinite(float(metrics.values["critic_loss"]))


def test_a_second_update_compiles_nothing(caplog):
    state, _ = AGENT.update(start(), batch(0, SHAPE))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        state, _ = AGENT.update(state, batch(1, SHAPE))
        AGENT.update(state, batch(2, SHAPE))
    assert not [record for record in caplog.records if "ompil" in record.message]


@pytest.mark.parametrize(
    "wrong",
    [
        {"critics": 0},
        {"target_critics": 3},
        {"gamma": 1.0},
        {"gamma": float("nan")},
        {"tau": 0.0},
        {"tau": 1.5},
        {"learning_rate": -1e-4},
        {"learning_rate": float("inf")},
        {"batch_size": 0},
        {"utd_ratio": 0},
        {"initial_temperature": 0.0},
        {"average_horizon": 0},
        {"critic_hidden": ()},
    ],
)
def test_an_impossible_config_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=f"SacConfig.*{next(iter(wrong))}"):
        SacConfig(**wrong)
