import jax
import numpy as np
import pytest

from learners.demonstrations import load_demonstrations
from serl_core.data.episode_file import save_episode
from serl_core.errors import DataError
from serl_core.image_config import ImageMode
from serl_core.networks.perception import perception_for
from serl_core.testing.episodes import assert_same_transitions, make_episode
from tests.learners.pixels import CONFIG, other_encoder, perceived, recorded

RANDOM = perceived()


def save(folder, episodes, digest=RANDOM.digest):
    for number, episode in enumerate(episodes):
        save_episode(folder / f"{number:04d}.safetensors", episode, task_digest=digest)
    return folder


def assert_encoded(transitions, images, perception):
    """Check each observation against its own picture, and that nothing else has changed."""
    encode = jax.jit(perception.frozen.encode)
    for transition in transitions:
        for observation in (transition.observation, transition.next_observation):
            expected = encode(images[observation.proprio.tobytes()])
            np.testing.assert_allclose(observation.features["wrist"], expected, atol=2e-3)


def without_features(transitions):
    return [
        t._replace(
            observation=t.observation._replace(features={}), next_observation=t.next_observation._replace(features={})
        )
        for t in transitions
    ]


def test_features_of_the_same_encoder_are_taken_as_they_are(tmp_path, monkeypatch):
    episodes = [recorded(RANDOM, episode=e, seed=e)[0] for e in range(2)]
    monkeypatch.setattr("learners.demonstrations.ImageEncoder", None)
    found = list(load_demonstrations(save(tmp_path / "demos", episodes), RANDOM))
    for mine, theirs in zip(found, episodes, strict=True):
        assert_same_transitions(mine, theirs)


def test_features_of_another_encoder_are_made_anew_from_the_frames(tmp_path, caplog):
    steps, images = recorded(RANDOM, steps=4)
    other = perceived(**other_encoder(tmp_path))
    assert other.frozen.identity != RANDOM.frozen.identity
    with caplog.at_level("INFO"):
        (found,) = load_demonstrations(save(tmp_path / "demos", [steps]), other)
    assert_encoded(found, images, other)
    assert_same_transitions(without_features(found), without_features(steps))
    assert f"1 of 1 demonstrations are encoded again, with {other.frozen.identity}" in caplog.text


def test_only_those_of_another_encoder_are_encoded_again(tmp_path, caplog):
    other = perceived(**other_encoder(tmp_path))
    (first, _), (second, images) = recorded(other, episode=0), recorded(RANDOM, episode=1, seed=1)
    save(tmp_path / "demos", [first, second])
    save(tmp_path / "demos", [first], other.digest)
    with caplog.at_level("INFO"):
        untouched, again = load_demonstrations(tmp_path / "demos", other)
    assert_same_transitions(untouched, first)
    assert_encoded(again, images, other)
    assert "1 of 2 demonstrations are encoded again" in caplog.text


def test_a_step_that_does_not_begin_where_the_last_ended_keeps_its_own_picture(tmp_path):
    """It got the observation in which the step before the gap had ended."""
    steps, images = recorded(RANDOM, steps=5)
    del steps[2]
    other = perceived(**other_encoder(tmp_path))
    (found,) = load_demonstrations(save(tmp_path / "demos", [steps]), other)
    assert_same_transitions(without_features(found), without_features(steps))
    assert_encoded(found, images, other)


def test_each_picture_of_an_episode_is_encoded_once(tmp_path, monkeypatch):
    steps, _ = recorded(RANDOM, steps=4)
    calls = []

    class Counted:
        def __init__(self, frozen, *, copies):
            pass

        def __call__(self, images):
            calls.append(images)
            return {}

    monkeypatch.setattr("learners.demonstrations.ImageEncoder", Counted)
    list(load_demonstrations(save(tmp_path / "demos", [steps]), perceived(**other_encoder(tmp_path))))
    assert len(calls) == 5


def test_copies_that_were_not_recorded_are_made(tmp_path):
    steps, images = recorded(RANDOM, steps=2)
    perception = perceived(copies=2)
    (found,) = load_demonstrations(save(tmp_path / "demos", [steps]), perception)
    for transition in found:
        features = transition.next_observation.features["wrist"]
        assert features.shape == (2, 2, 2, 64)
        expected = jax.jit(perception.frozen.encode)(images[transition.next_observation.proprio.tobytes()])
        np.testing.assert_allclose(features[0], expected, atol=2e-3)
        assert np.abs(features[1] - features[0]).max() > 0.05


def test_demonstrations_recorded_with_features_serve_a_run_on_pixels(tmp_path):
    steps, _ = recorded(RANDOM, steps=2)
    perception = perceived(mode=ImageMode.PIXELS)
    (found,) = load_demonstrations(save(tmp_path / "demos", [steps]), perception)
    assert_same_transitions(without_features(found), without_features(steps))


@pytest.mark.parametrize(
    "perception", [perceived(time_limit_steps=99), perception_for(CONFIG)], ids=["pixels", "state"]
)
def test_those_of_another_task_are_refused_before_any_is_loaded(tmp_path, perception):
    folder = save(tmp_path / "demos", [recorded(RANDOM, steps=2)[0]])
    with pytest.raises(DataError) as raised:
        load_demonstrations(folder, perception)
    message = str(raised.value)
    assert all(part in message for part in ("0000.safetensors", RANDOM.digest, perception.digest, "record again"))


def test_features_of_another_encoder_without_frames_are_refused_by_file(tmp_path):
    steps, _ = recorded(RANDOM, steps=2)
    bare = [
        t._replace(
            observation=t.observation._replace(frames={}), next_observation=t.next_observation._replace(frames={})
        )
        for t in steps
    ]
    folder = save(tmp_path / "demos", [bare])
    with pytest.raises(DataError, match=r"0000\.safetensors has features of another encoder and no frames"):
        list(load_demonstrations(folder, perceived(**other_encoder(tmp_path))))


def test_demonstrations_from_state_come_as_they_are(tmp_path):
    perception = perception_for(CONFIG)
    episode = make_episode(perception.spec)
    (found,) = load_demonstrations(save(tmp_path / "demos", [episode], perception.digest), perception)
    assert_same_transitions(found, episode)
