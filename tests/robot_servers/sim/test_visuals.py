"""Looks are data, change nothing that moves, and leave the physical random stream alone."""

import copy

import numpy as np
import pytest

from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.cameras import SceneCamera
from robot_servers.sim.scenes import build_ram_insertion, textured_model
from robot_servers.sim.visuals import VisualPreset, VisualRandomisation, randomise, visual_stream
from serl_core.errors import ConfigError

SCENE = build_ram_insertion()
BASE = textured_model(SCENE)
RANGES = VisualRandomisation()
NOTHING = VisualRandomisation(**dict.fromkeys(vars(RANGES), 0.0))
LOOKS = {
    "light_diffuse", "light_pos", "geom_rgba", "mat_rgba", "cam_pos", "cam_quat", "tex_data"
}  # fmt: skip


def drawn(ranges, seed):
    model = copy.deepcopy(BASE)
    randomise(model, BASE, ranges, visual_stream(seed))
    return model


def arrays(model):
    return {name: value for name in dir(model) if isinstance(value := getattr(model, name), np.ndarray)}


def differing(a, b):
    a, b = arrays(a), arrays(b)
    return {name for name in a if not np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f")}


def test_only_looks_change():
    assert differing(drawn(RANGES, 0), BASE) == LOOKS


def test_no_range_is_no_change():
    model = drawn(NOTHING, 0)
    assert differing(model, BASE) <= {"cam_quat"}
    np.testing.assert_allclose(model.cam_quat, BASE.cam_quat, atol=1e-12)


def test_looks_belong_to_their_seed():
    assert differing(drawn(RANGES, 3), drawn(RANGES, 3)) == set()
    assert differing(drawn(RANGES, 3), drawn(RANGES, 4)) == LOOKS


def test_looks_stay_within_their_ranges():
    for seed in range(20):
        model = drawn(RANGES, seed)
        assert np.abs(model.cam_pos - BASE.cam_pos).max() <= RANGES.camera_position_m
        assert np.abs(model.geom_rgba - BASE.geom_rgba).max() <= RANGES.colour + 1e-6
        assert (model.light_diffuse <= BASE.light_diffuse * (1 + RANGES.light) * (1 + RANGES.light / 4)).all()


@pytest.mark.parametrize("field", sorted(vars(RANGES)))
@pytest.mark.parametrize("value", [-0.1, float("nan"), 100.0])
def test_a_range_outside_what_is_allowed_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"VisualRandomisation\.{field}: must be 0 to"):
        VisualRandomisation(**{field: value})


def backend(preset):
    return MujocoBackend("ram_insertion", seed=7, is_lockstep=True, visuals=preset.visuals)


def test_the_physics_is_the_same_with_any_looks():
    plain, varied = backend(VisualPreset.PLAIN), backend(VisualPreset.RANDOMISED)
    for seed in (None, 5, None):
        plain.reset(seed, None)
        varied.reset(seed, None)
        assert plain.state() == varied.state()


def test_a_reset_draws_the_looks_of_its_seed():
    arm = backend(VisualPreset.RANDOMISED)
    pictures = []
    for seed in (5, None, 5, None):
        arm.reset(seed, None)
        pictures.append(arm.camera("wrist", 32, 32).image)
    arm.stop()
    np.testing.assert_array_equal(pictures[:2], pictures[2:])
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 1.0


def test_each_size_shows_the_newest_looks():
    camera = SceneCamera(SCENE, VisualPreset.RANDOMISED.visuals)
    camera.place(SCENE.start_pose, np.random.default_rng(0))
    first = camera.render("side_1", 32, 32)
    camera.randomise(1)
    camera.render("side_1", 64, 64)
    camera.randomise(2)
    second = camera.render("side_1", 32, 32)
    camera.close()
    fresh = SceneCamera(SCENE, VisualPreset.RANDOMISED.visuals)
    fresh.place(SCENE.start_pose, np.random.default_rng(0))
    fresh.randomise(2)
    np.testing.assert_array_equal(second, fresh.render("side_1", 32, 32))
    fresh.randomise(None)
    np.testing.assert_allclose(first.astype(int), fresh.render("side_1", 32, 32), atol=1)
    fresh.close()


def test_a_pretty_picture_has_shadows():
    pictures = []
    for preset in (VisualPreset.PLAIN, VisualPreset.PRETTY):
        camera = SceneCamera(SCENE, preset.visuals)
        camera.place(SCENE.start_pose, np.random.default_rng(0))
        pictures.append(camera.render("side_1", 64, 64).mean())
        camera.close()
    assert pictures[1] < pictures[0] - 3.0
