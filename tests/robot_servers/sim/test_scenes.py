import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.sim.scenes import RAM_TARGET_POSE, SCENES, build_ram_insertion, is_stick_seated

SCENE = build_ram_insertion()
SEATED = np.array(SCENE.object_target_pose[:3])
DOWN = Rotation.from_quat(SCENE.object_target_pose[3:])


def is_seated(offset=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)):
    return is_stick_seated(SEATED + offset, (Rotation.from_rotvec(turn) * DOWN).as_matrix())


def test_target_pose_is_on_the_socket_floor():
    np.testing.assert_allclose(RAM_TARGET_POSE, (0.5, 0.0, 0.058, 1.0, 0.0, 0.0, 0.0))
    assert is_seated()


@pytest.mark.parametrize("offset", [(0.0004, 0.0, 0.0), (0.0, -0.0004, 0.0), (0.0, 0.0, 0.0014)])
def test_stick_within_the_clearance_near_the_floor_is_seated(offset):
    assert is_seated(offset)


@pytest.mark.parametrize("offset", [(0.002, 0.0, 0.0), (0.0, 0.002, 0.0), (0.0, -0.0011, 0.0), (0.0, 0.0, 0.0016)])
def test_stick_outside_the_socket_or_off_its_floor_is_not_seated(offset):
    assert not is_seated(offset)


def test_stick_pressed_against_a_wall_of_the_socket_is_still_seated():
    """Success was missed while the stick stood on the floor: a soft wall lets it sink in by some micrometres."""
    assert is_seated((0.0, 0.00055, 0.0), (0.002, 0.0, 0.0))


@pytest.mark.parametrize("turn", [(0.0, 0.06, 0.0), (0.0, 0.0, 0.1)])
def test_stick_with_a_corner_up_or_outside_is_not_seated(turn):
    assert not is_seated(turn=turn)


def test_socket_leaves_half_a_millimetre_on_every_side():
    model = SCENE.model
    socket, stick = model.body("socket").id, model.geom("stick")
    half_x, half_y, _ = stick.size
    walls = [g for g in range(model.ngeom) if model.geom_bodyid[g] == socket and g != model.geom("socket_floor").id]
    gaps = []
    for wall in walls:
        inner = np.abs(model.geom_pos[wall]) - model.geom_size[wall]
        gaps.append(inner[0] - half_x if model.geom_pos[wall][0] else inner[1] - half_y)
    np.testing.assert_allclose(gaps, [0.0005] * 4, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SCENES))
def test_every_scene_has_the_cameras_and_bodies_the_simulator_relies_on(name):
    model = SCENES[name]().model
    for camera in ("wrist", "side_1", "side_2"):
        assert model.camera(camera).id >= 0
    assert model.body("object").id > model.body("hand").id
    assert model.equality("grasp").id >= 0
    assert model.opt.timestep == 1e-3
