import dataclasses

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from serl_core.data.episode_file import _checksum
from serl_core.data.episode_log import load_episode, load_episodes, save_episode
from serl_core.errors import DataError
from serl_core.testing.episodes import PIXEL_SPEC, STATE_SPEC, assert_same_transitions, make_episode
from serl_core.types import EndReason


@pytest.fixture
def path(tmp_path):
    return tmp_path / "demos" / "demo-0001.safetensors"


@pytest.mark.parametrize("spec", [STATE_SPEC, PIXEL_SPEC], ids=["state", "pixels"])
def test_an_episode_comes_back_bit_for_bit(path, spec):
    episode = make_episode(spec, end=EndReason.SUCCESS, interventions=[1, 2])
    save_episode(path, episode, task_digest="cafe")
    assert_same_transitions(load_episode(path), episode)


def test_an_episode_with_compressed_frames_and_copies_of_features_comes_back_bit_for_bit(path):
    spec = dataclasses.replace(PIXEL_SPEC, image_shapes={}, feature_copies=3)
    episode = make_episode(spec, steps=7, frames=("wrist", "side"))
    lengths = {len(step.observation.frames["wrist"]) for step in episode}
    assert len(lengths) > 1
    assert episode[0].observation.features["wrist"].shape == (3, 2, 2, 8)
    save_episode(path, episode, task_digest="cafe")
    assert_same_transitions(load_episode(path), episode)


def test_compressed_frames_of_steps_that_do_not_meet_stay_with_their_steps(path):
    """Only the pictures tell the frames apart: the arm stands still, and the numbers are the same."""
    episode = make_episode(steps=6, frames=("wrist",))
    rest = np.zeros(3, np.float32)
    still = [
        step._replace(
            observation=step.observation._replace(proprio=rest),
            next_observation=step.next_observation._replace(proprio=rest),
        )
        for step in episode
    ]
    del still[2]
    save_episode(path, still, task_digest="cafe")
    assert_same_transitions(load_episode(path), still)


def test_each_compressed_frame_is_stored_once(path):
    episode = make_episode(steps=9, frames=("wrist",))
    save_episode(path, episode, task_digest="cafe")
    frames = [episode[0].observation.frames["wrist"], *(step.next_observation.frames["wrist"] for step in episode)]
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("observation/frames/wrist"), np.concatenate(frames))
        assert file.get_tensor("observation/frame_ends/wrist").tolist() == np.cumsum([*map(len, frames)]).tolist()


def test_an_episode_of_one_step_keeps_its_two_frames(path):
    episode = make_episode(steps=1, frames=("wrist",))
    save_episode(path, episode, task_digest="cafe")
    assert_same_transitions(load_episode(path), episode)


def changed(path, changes):
    """Give a file other arrays, None for none, with its checksum right."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()} | changes  # noqa: SIM118
        text = file.metadata()["episode"]
    arrays = {name: array for name, array in arrays.items() if array is not None}
    save_file(arrays, path, {"episode": text, "crc32": f"{_checksum(text, arrays):08x}"})


@pytest.mark.parametrize(
    "changes",
    [
        {"observation/frame_ends/wrist": None},
        {"observation/frame_ends/wrist": np.zeros((10**12, 0), np.int64)},
        {"observation/proprio": np.zeros((10**12, 0), np.float32)},
        {"observation/proprio": np.zeros((), np.float32)},
        {"reward": np.zeros((5, 2))},
        {"reward": np.zeros(4)},
        {"frame": np.zeros(5)},
        {"end": np.full(5, 99, np.int8)},
        {"next_frame": np.full(5, 6)},
        {"action": None},
    ],
    ids=lambda changes: " ".join(
        f"{name} {array.shape if array is not None else 'gone'}" for name, array in changes.items()
    ),
)
def test_arrays_that_make_no_episode_are_refused_whatever_length_they_claim(path, changes):
    """Some ended the learner by another error, and an array without bytes made it count to a million millions."""
    save_episode(path, make_episode(frames=("wrist",)), task_digest="cafe")
    changed(path, changes)
    with pytest.raises(DataError, match="its arrays do not make an episode"):
        load_episode(path)


def test_each_frame_is_stored_once(path):
    save_episode(path, make_episode(PIXEL_SPEC, steps=9), task_digest="cafe")
    with safe_open(path, framework="numpy") as file:
        assert file.get_tensor("observation/images/wrist").shape == (10, 4, 5, 3)


def test_steps_that_do_not_meet_keep_their_own_frames(path):
    episode = make_episode(PIXEL_SPEC, steps=6)
    del episode[3]
    save_episode(path, episode, task_digest="cafe")
    assert_same_transitions(load_episode(path), episode)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    episodes = [make_episode(episode=e, first_sequence=5 * e) for e in range(3)]
    for e in (2, 0, 1):
        save_episode(tmp_path / f"{e:06d}.safetensors", episodes[e], task_digest="cafe")
    found = list(load_episodes(tmp_path))
    for mine, theirs in zip(found, episodes, strict=True):
        assert_same_transitions(mine, theirs)


def test_a_missing_folder_file_or_episode_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere: record demonstrations"):
        load_episodes(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no episode .* in "):
        load_episodes(tmp_path)
    with pytest.raises(DataError, match=r"no episode file .*gone\.safetensors"):
        load_episode(tmp_path / "gone.safetensors")


def test_a_flipped_bit_anywhere_is_noticed(path):
    save_episode(path, make_episode(steps=2), task_digest="cafe")
    whole = path.read_bytes()
    for place in np.random.default_rng(0).choice(8 * len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"demo-0001\.safetensors is "):
            load_episode(path)


def test_a_file_cut_anywhere_is_refused(path):
    save_episode(path, make_episode(steps=2), task_digest="cafe")
    whole = path.read_bytes()
    for length in range(0, len(whole), 41):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"is corrupt: .*; move it out of its folder"):
            load_episode(path)


def test_another_safetensors_file_is_no_episode(path):
    path.parent.mkdir()
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(DataError, match="it is not an episode"):
        load_episode(path)


def test_nothing_is_left_behind_when_the_disk_refuses(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.safetensors"
    save_episode(path, make_episode(), task_digest="cafe")
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(DataError, match=r"cannot write .*a\.safetensors: No space left on device"):
        save_episode(path, make_episode(seed=1), task_digest="cafe")
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == before


def test_an_empty_episode_is_not_saved(path):
    with pytest.raises(DataError, match="without steps"):
        save_episode(path, [], task_digest="cafe")
