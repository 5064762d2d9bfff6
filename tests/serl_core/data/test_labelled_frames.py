import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from serl_core.data import labelled_frames
from serl_core.data.labelled_frames import (
    LabelledFrames,
    count_labels,
    labelled_paths,
    load_folders,
    load_labelled,
    save_labelled,
)
from serl_core.errors import DataError
from serl_core.image_config import FrameFormat


def frames(count=4, task="ram", seed=0, sizes=(("wrist", 16, 24), ("side", 20, 20)), **changes):
    random = np.random.default_rng(seed)
    episode = LabelledFrames(
        task=task,
        images={name: random.integers(0, 256, (count, h, w, 3), np.uint8) for name, h, w in sizes},
        is_success=np.arange(count) >= count // 2,
        step=np.arange(count),
        tcp_pose=random.normal(size=(count, 7)),
        origins={name: f"{name} (robot), as {w}x{h}" for name, h, w in sizes},
    )
    return episode._replace(**changes)


def assert_equal(a, b):
    assert (a.task, sorted(a.images)) == (b.task, sorted(b.images))
    for name, stack in a.images.items():
        np.testing.assert_array_equal(stack, b.images[name])
    assert a.origins == b.origins
    for x, y in zip(a[2:6], b[2:6], strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("probability", [None, np.linspace(0.0, 1.0, 4)])
def test_a_file_gives_back_what_was_saved(tmp_path, probability):
    saved = frames(probability=probability)
    save_labelled(tmp_path / "new" / "a.safetensors", saved)
    assert_equal(load_labelled(tmp_path / "new" / "a.safetensors"), saved)


def test_frames_can_be_kept_as_jpeg_in_fewer_bytes(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (3, 64, 64, 3)).copy()
    noisy = smooth // 2 + np.random.default_rng(0).integers(0, 64, smooth.shape, np.uint8)
    episode = frames(3, sizes=())._replace(images={"wrist": noisy})
    for form in FrameFormat:
        save_labelled(tmp_path / f"{form.value}.safetensors", episode, form)
    assert (tmp_path / "jpeg.safetensors").stat().st_size < 0.7 * (tmp_path / "png.safetensors").stat().st_size
    jpeg = load_labelled(tmp_path / "jpeg.safetensors").images["wrist"]
    assert np.abs(jpeg.astype(int) - noisy).mean() < 20


def test_frames_left_out_break_the_run():
    episode = frames(5, step=np.array([0, 1, 4, 5, 9]))
    np.testing.assert_array_equal(episode.run, [0, 0, 1, 1, 2])


def test_selected_frames_keep_what_belongs_to_them():
    episode = frames(4, probability=np.arange(4.0))
    chosen = episode.select(np.array([True, False, False, True]))
    np.testing.assert_array_equal(chosen.step, [0, 3])
    np.testing.assert_array_equal(chosen.probability, [0.0, 3.0])
    np.testing.assert_array_equal(chosen.images["side"], episode.images["side"][[0, 3]])
    assert frames().select(np.ones(4, bool)).probability is None


def test_labels_are_counted_over_episodes():
    assert count_labels([frames(4), frames(5)]) == (5, 4)
    assert count_labels([]) == (0, 0)


@pytest.mark.parametrize("empty", [frames(0), frames(sizes=())])
def test_an_episode_without_frames_or_images_is_not_saved(tmp_path, empty):
    with pytest.raises(DataError, match="at least one frame of one image"):
        save_labelled(tmp_path / "a.safetensors", empty)
    assert not list(tmp_path.iterdir())


def test_damage_anywhere_in_a_file_is_found(tmp_path):
    path = tmp_path / "a.safetensors"
    save_labelled(path, frames())
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"is corrupt|is of version"):
            load_labelled(path)
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match="is corrupt"):
        load_labelled(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file of labelled frames"):
        load_labelled(tmp_path / "none.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="holds no labelled frames"):
        load_labelled(tmp_path / "other.safetensors")


def test_a_file_whose_arrays_do_not_fit_its_header_is_refused(tmp_path, monkeypatch):
    """Its checksum is right: some other program wrote it."""
    path = tmp_path / "a.safetensors"
    monkeypatch.setattr(labelled_frames, "_checksum", lambda *_: "0")
    save_labelled(path, frames())
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    broken = [
        ({"is_success": arrays["is_success"][:3]}, "its header counts 4 frames"),
        ({"is_success": arrays["is_success"].astype(np.int64)}, "its header counts 4 frames"),
        ({"ends/side": arrays["ends/side"] + 3}, "make no labelled frames"),
        ({"bytes/side": None}, "make no labelled frames"),
    ]
    for change, words in broken:
        changed = {name: array for name, array in {**arrays, **change}.items() if array is not None}
        save_file(changed, path, metadata)
        with pytest.raises(DataError, match=words):
            load_labelled(path)


def test_a_file_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(labelled_frames, "VERSION", 9)
    save_labelled(tmp_path / "a.safetensors", frames())
    monkeypatch.undo()
    with pytest.raises(DataError, match="is of version 9, this program reads 1"):
        load_labelled(tmp_path / "a.safetensors")


def test_several_folders_are_read_in_order_and_reduced_to_the_images_asked_for(tmp_path):
    for place, name in enumerate(["b/2", "b/1", "a/1"]):
        save_labelled(tmp_path / f"{name}.safetensors", frames(seed=place))
    episodes = load_folders([tmp_path / "b", tmp_path / "a"], images=["side"])
    expected = [frames(seed=place) for place in (1, 0, 2)]
    for episode, whole in zip(episodes, expected, strict=True):
        assert list(episode.images) == ["side"]
        np.testing.assert_array_equal(episode.images["side"], whole.images["side"])
        assert episode.origins == {"side": "side (robot), as 20x20"}
    assert sorted(load_folders([tmp_path / "a"])[0].images) == ["side", "wrist"]


def test_folders_that_do_not_fit_together_are_refused(tmp_path):
    save_labelled(tmp_path / "a" / "1.safetensors", frames())
    save_labelled(tmp_path / "b" / "1.safetensors", frames(task="usb"))
    save_labelled(tmp_path / "c" / "1.safetensors", frames(sizes=(("wrist", 32, 24), ("side", 20, 20))))
    cropped = {"wrist": "wrist (robot), 9x9 at 0,0, as 24x16", "side": "side (robot), as 20x20"}
    save_labelled(tmp_path / "d" / "1.safetensors", frames(origins=cropped))
    for other, words in (("b", "of task 'usb'"), ("c", r"\(32, 24, 3\)"), ("d", "9x9 at 0,0")):
        with pytest.raises(DataError, match=words):
            load_folders([tmp_path / "a", tmp_path / other])
    with pytest.raises(DataError, match=r"no images \['front'\], it has \['side', 'wrist'\]"):
        load_folders([tmp_path / "a"], images=["front", "side"])


def test_a_folder_without_frames_says_how_to_record_some(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="serl classifier record"):
            labelled_paths(folder)
    with pytest.raises(DataError, match="no folder of labelled frames was named"):
        load_folders([])
