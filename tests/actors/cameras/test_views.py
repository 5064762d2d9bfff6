import numpy as np
import pytest

from actors.cameras.views import FILE, check_views, view
from serl_core.errors import ConfigError, DataError


def scene(seed, size=(48, 64)):
    """Return a picture with large patches, as of a scene, and a sensor's noise."""
    patches = np.random.default_rng(seed).integers(30, 220, (6, 8, 3))
    grown = np.kron(patches, np.ones((size[0] // 6, size[1] // 8, 1)))
    return grown.astype(np.uint8)


def noisy(image, seed=0):
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


WRIST, SIDE, TOP = scene(1), scene(2), scene(3)


def test_the_same_cameras_pass_again_whatever_their_noise_and_the_light(tmp_path):
    assert check_views({"wrist": WRIST, "side": SIDE}, tmp_path) == []
    darker = (0.8 * SIDE).astype(np.uint8)
    assert check_views({"wrist": noisy(WRIST), "side": noisy(darker)}, tmp_path) == []


def test_swapped_cameras_are_refused_by_name(tmp_path):
    check_views({"wrist": WRIST, "side": SIDE, "top": TOP}, tmp_path)
    with pytest.raises(ConfigError, match="'wrist' and 'top' seem to be swapped"):
        check_views({"wrist": noisy(TOP), "side": SIDE, "top": noisy(WRIST)}, tmp_path)


def test_a_camera_that_was_moved_is_warned_of(tmp_path):
    check_views({"wrist": WRIST, "side": SIDE}, tmp_path)
    (warning,) = check_views({"wrist": WRIST, "side": TOP}, tmp_path)
    assert "'side' shows something else" in warning


@pytest.mark.parametrize("level", [0, 5, 128, 255])
def test_a_camera_that_shows_nothing_is_refused(tmp_path, level):
    blank = np.full((48, 64, 3), level, np.uint8)
    with pytest.raises(ConfigError, match="camera 'side' shows nothing"):
        check_views({"wrist": WRIST, "side": blank}, tmp_path)
    assert not (tmp_path / FILE).exists()


def test_one_camera_under_two_names_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'a' and 'b' give the very same picture"):
        check_views({"a": WRIST, "b": WRIST}, tmp_path)


def test_a_new_camera_of_an_old_run_is_no_swap(tmp_path):
    check_views({"wrist": WRIST}, tmp_path)
    assert check_views({"wrist": WRIST, "side": SIDE}, tmp_path) == []


def test_a_damaged_file_is_told_with_its_remedy(tmp_path):
    (tmp_path / FILE).write_bytes(b"{")
    with pytest.raises(DataError, match="remove it"):
        check_views({"wrist": WRIST}, tmp_path)


def test_a_view_is_the_mean_of_each_cell():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:2, :2] = 200
    assert view(image)[0, 0].tolist() == [200.0] * 3
    assert view(image)[1, 1].tolist() == [0.0] * 3
