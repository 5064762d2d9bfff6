import dataclasses

import numpy as np
import pytest

from serl_core.data.mixture import Mixture
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import ConfigError, DataError
from serl_core.testing.episodes import PIXEL_SPEC, STATE_SPEC, make_episode


def holding(*episodes, spec=STATE_SPEC):
    return ReplayBuffer.holding(spec, episodes)


DEMONSTRATIONS = make_episode(session="demo", steps=4, interventions=range(4))
ONLINE = make_episode(session="online", steps=8, interventions=[2, 3])
EMPTY = ReplayBuffer(STATE_SPEC, 2)


def which(batch, transitions):
    """Return for each row whether it is one of `transitions`, after checking that no row is torn."""
    known = {t.observation.proprio.tobytes(): t for t in [*DEMONSTRATIONS, *ONLINE]}
    wanted = {t.observation.proprio.tobytes() for t in transitions}
    rows = batch.observation.proprio
    for place in np.ndindex(rows.shape[:-1]):
        t = known[rows[place].tobytes()]
        np.testing.assert_array_equal(batch.action[place], t.action)
        np.testing.assert_array_equal(batch.next_observation.proprio[place], t.next_observation.proprio)
        assert (batch.end[place], batch.is_intervention[place]) == (t.end, t.is_intervention)
    return np.vectorize(lambda *p: rows[p].tobytes() in wanted)(*np.indices(rows.shape[:-1]))


def test_half_of_every_batch_is_demonstrations_and_interventions():
    batch = Mixture(holding(DEMONSTRATIONS), holding(ONLINE)).sample(np.random.default_rng(0), 20, 64)
    assert batch.observation.proprio.shape == (20, 64, 3)
    corrected = [t for t in ONLINE if t.is_intervention]
    assert which(batch, [*DEMONSTRATIONS, *corrected])[:, :32].all()
    assert which(batch, ONLINE)[:, 32:].all()


def test_demonstrations_and_interventions_are_drawn_alike():
    batch = Mixture(holding(DEMONSTRATIONS), holding(ONLINE), 1.0).sample(np.random.default_rng(0), 100, 60)
    assert abs(which(batch, DEMONSTRATIONS).mean() - 4 / 6) < 0.02


def test_the_online_half_is_all_of_the_online_buffer():
    batch = Mixture(holding(DEMONSTRATIONS), holding(ONLINE), 0.0).sample(np.random.default_rng(0), 100, 80)
    assert which(batch, ONLINE).all()
    assert abs(batch.is_intervention.mean() - 2 / 8) < 0.02


def test_while_one_side_is_empty_the_other_gives_all():
    rng = np.random.default_rng(0)
    assert which(Mixture(holding(DEMONSTRATIONS), EMPTY).sample(rng, 2, 8), DEMONSTRATIONS).all()
    autonomous = make_episode(session="online", steps=8)
    batch = Mixture(EMPTY, holding(autonomous)).sample(rng, 2, 8)
    assert batch.observation.proprio.shape == (2, 8, 3)


def test_with_nothing_at_all_sampling_is_an_error():
    with pytest.raises(DataError, match="no transition to sample"):
        Mixture(EMPTY, EMPTY).sample(np.random.default_rng(0), 1, 8)


def test_the_same_seed_gives_the_same_batches():
    mixture = Mixture(holding(DEMONSTRATIONS), holding(ONLINE))
    one, two = (mixture.sample(np.random.default_rng(5), 3, 16) for _ in range(2))
    np.testing.assert_array_equal(one.observation.proprio, two.observation.proprio)
    other = mixture.sample(np.random.default_rng(6), 3, 16)
    assert (one.observation.proprio != other.observation.proprio).any()


def test_pictures_come_along():
    demonstrations, online = (make_episode(PIXEL_SPEC, session=name, interventions=[0]) for name in "ab")
    mixture = Mixture(holding(demonstrations, spec=PIXEL_SPEC), holding(online, spec=PIXEL_SPEC))
    batch = mixture.sample(np.random.default_rng(0), 2, 10)
    by_proprio = {t.observation.proprio.tobytes(): t for t in [*demonstrations, *online]}
    for place in np.ndindex(2, 10):
        t = by_proprio[batch.observation.proprio[place].tobytes()]
        np.testing.assert_array_equal(batch.observation.images["side"][place], t.observation.images["side"])
        np.testing.assert_array_equal(
            batch.next_observation.features["wrist"][place], t.next_observation.features["wrist"]
        )


def test_copies_of_features_are_chosen_for_each_row_of_both_halves():
    spec = dataclasses.replace(PIXEL_SPEC, image_shapes={}, feature_copies=2)
    demonstrations, online = (make_episode(spec, session=name, steps=4) for name in "ab")
    mixture = Mixture(holding(demonstrations, spec=spec), holding(online, spec=spec))
    batch = mixture.sample(np.random.default_rng(0), 2, 40)
    by_proprio = {t.observation.proprio.tobytes(): t for t in [*demonstrations, *online]}
    chosen = np.zeros((2, 40), int)
    for place in np.ndindex(2, 40):
        copies = by_proprio[batch.observation.proprio[place].tobytes()].observation.features["wrist"]
        (chosen[place],) = np.flatnonzero((copies == batch.observation.features["wrist"][place]).all((1, 2, 3)))
    assert 0 < chosen[:, :20].mean() < 1
    assert 0 < chosen[:, 20:].mean() < 1


def test_a_fraction_outside_0_to_1_is_refused():
    with pytest.raises(ConfigError, match=r"demo_fraction: must be 0 to 1, got 1\.5"):
        Mixture(EMPTY, EMPTY, 1.5)
