"""Pictures of the simulated scene: the present state's, the same to the byte, and in nobody's way."""

import itertools
import threading

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim import cameras
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.cameras import MAX_SIZES, SceneCamera
from robot_servers.sim.scenes import CLEARANCE_M, SCENES, SOCKET_RIM_M, SOCKET_XY_M, STICK_HALF_M, build_ram_insertion
from robot_servers.sim.world import World
from serl_core.errors import RobotError

SCENE = build_ram_insertion()
DOWN = Rotation.from_quat((1.0, 0.0, 0.0, 0.0))
ABOVE_RIM_M = 0.077  # the tool's height with the stick 4 mm above the socket


def pose(x=0.0, y=0.0, z=0.12, yaw=0.0):
    turned = Rotation.from_rotvec((0.0, 0.0, yaw)) * DOWN
    return (SOCKET_XY_M[0] + x, SOCKET_XY_M[1] + y, z, *turned.as_quat().tolist())


@pytest.fixture(scope="module")
def camera():
    camera = SceneCamera(SCENE)
    yield camera
    camera.close()


@pytest.fixture
def arm():
    arm = MujocoBackend("ram_insertion", is_lockstep=True)
    yield arm
    arm.stop()


def seen(camera, name="wrist", size=128, **where):
    camera.place(pose(**where), np.random.default_rng(0))
    return camera.render(name, size, size).astype(int)


def orange(image):
    """The share of the picture that the band on the stick's lower end takes."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return float(((red > 1.3 * green) & (green > 1.8 * blue) & (red > 80)).mean())


def blue(image):
    """The share of the picture that the socket's long walls take."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return float((blue > 1.5 * np.maximum(red, green)).mean())


@pytest.mark.parametrize("name", ["wrist", "side_1", "side_2"])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (48, 96)])
def test_each_camera_gives_a_picture_of_the_size_asked_for(arm, name, height, width):
    image, stamp_s = arm.camera(name, height, width)
    assert (image.shape, image.dtype, stamp_s) == ((height, width, 3), np.uint8, 0.0)
    assert image.std() > 10.0
    assert not image.flags.writeable


def test_the_same_state_gives_the_same_bytes(arm):
    first = arm.camera("wrist", 64, 64).image
    other = MujocoBackend("ram_insertion", is_lockstep=True)
    np.testing.assert_array_equal(first, arm.camera("wrist", 64, 64).image)
    np.testing.assert_array_equal(first, other.camera("wrist", 64, 64).image)
    other.stop()


def test_a_picture_shows_the_state_of_its_stamp():
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    before = robot.camera("wrist")
    state = robot.step(pose(y=0.01, z=0.115), 0.1)
    after = robot.camera("wrist")
    robot.sim_reset(pose=state.tcp_pose)
    assert (before.stamp_s, after.stamp_s) == (0.0, state.stamp_s)
    assert np.abs(after.image.astype(int) - before.image).mean() > 1.0
    service.close()


def test_looking_changes_nothing_in_the_physics():
    def run(looks):
        service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
        service.start()
        robot = LocalRobot(service)
        robot.connect()
        states = []
        for i in range(5):
            states.append(robot.step(pose(y=0.002 * i), 0.05))
            if looks:
                robot.camera("side_1", 32, 32)
        service.close()
        return states

    assert run(looks=True) == run(looks=False)


def test_row_0_is_at_the_top(camera):
    """OpenGL counts rows from the bottom. The hand is above the socket in a side view."""
    image = seen(camera, "side_2")
    assert blue(image[64:]) > 10 * blue(image[:64])
    assert orange(image[:64]) > 10 * orange(image[64:])


def test_a_millimetre_is_seen(camera):
    """Of the stick above the socket, in each direction, at 128 pixels."""
    middle = seen(camera, z=ABOVE_RIM_M)
    for direction in ({"x": 0.001}, {"y": 0.001}, {"yaw": 0.03}):
        assert np.abs(seen(camera, z=ABOVE_RIM_M, **direction) - middle).mean() > 0.3, direction


@pytest.mark.parametrize(("x", "y"), list(itertools.product((-0.04, 0.0, 0.04), repeat=2)))
def test_the_wrist_sees_stick_and_socket_from_every_start(camera, x, y):
    image = seen(camera, x=x, y=y, yaw=0.1)
    assert orange(image) > 0.003
    assert blue(image) > 0.02


@pytest.mark.parametrize("name", ["wrist", "side_1", "side_2"])
def test_the_band_vanishes_as_the_stick_goes_in(camera, name):
    above, half, seated = (orange(seen(camera, name, z=z)) for z in (ABOVE_RIM_M, 0.066, 0.0582))
    assert above > 1.3 * half > 2 * seated
    assert half > 0.002


@pytest.mark.parametrize(("x", "y"), list(itertools.product((-0.04, 0.04), repeat=2)))
def test_the_wrist_keeps_the_socket_in_its_frame(x, y):
    world = World(SCENE)
    world.place(pose(x=x, y=y, yaw=0.1), np.random.default_rng(0))
    model, data = SCENE.model, mujoco.MjData(SCENE.model)
    data.qpos[:] = world.configuration()
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    camera = model.camera("wrist").id
    half = np.array(STICK_HALF_M[:2]) + CLEARANCE_M
    for i, j in itertools.product((-1, 1), repeat=2):
        corner = np.array((SOCKET_XY_M[0] + i * half[0], SOCKET_XY_M[1] + j * half[1], SOCKET_RIM_M))
        right, up, back = (corner - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
        edge = np.tan(np.radians(model.cam_fovy[camera] / 2))
        assert back < 0.0
        assert max(abs(right), abs(up)) < -back * edge


def test_each_size_shows_the_present_state(camera):
    """All sizes were drawn into the buffer of the newest one, and read from their own."""
    seen(camera, size=32)
    seen(camera, size=48)
    image = seen(camera, size=32, y=0.02)
    fresh = SceneCamera(SCENE)
    np.testing.assert_array_equal(image, seen(fresh, size=32, y=0.02))
    fresh.close()


def test_sizes_beyond_those_kept_are_drawn_too(camera):
    first = camera.render("wrist", 32, 32)
    for size in range(40, 40 + 8 * MAX_SIZES, 8):
        camera.render("wrist", size, size)
    np.testing.assert_array_equal(first, camera.render("wrist", 32, 32))
    assert len(camera._canvases) == MAX_SIZES


def test_a_pose_out_of_reach_is_refused(camera):
    with pytest.raises(RobotError, match="reach"):
        camera.place((2.0, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0), np.random.default_rng(0))


def test_a_stopped_backend_can_draw_again(arm):
    first = arm.camera("wrist", 32, 32).image
    arm.stop()
    arm.stop()
    np.testing.assert_array_equal(first, arm.camera("wrist", 32, 32).image)


def test_a_slow_picture_holds_up_neither_reading_nor_the_loop(monkeypatch):
    arm = MujocoBackend("ram_insertion", is_lockstep=False)
    service = RobotService(arm)
    service.start()
    is_drawing, may_end = threading.Event(), threading.Event()

    def render(self, name, height, width):
        is_drawing.set()
        assert may_end.wait(10.0)
        return np.zeros((height, width, 3), np.uint8)

    monkeypatch.setattr(SceneCamera, "render", render)
    drawing = threading.Thread(target=arm.camera, args=("wrist", 32, 32))
    drawing.start()
    assert is_drawing.wait(10.0)
    before_s = service.state().stamp_s
    while service.state().stamp_s < before_s + 0.02:
        pass
    assert service.stop().mode.value == "stopped"
    may_end.set()
    drawing.join()
    service.close()


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (mujoco.FatalError("no framebuffer"), "no framebuffer"),
        (RuntimeError("context lost"), "context lost"),
        (None, "no picture within 0.01 s"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_an_error_with_a_status(arm, monkeypatch, fail, words):
    may_end = threading.Event()

    def render(self, name, height, width):
        if fail is not None:
            raise fail
        may_end.wait(10.0)
        return np.zeros((height, width, 3), np.uint8)

    before = arm.camera("wrist", 32, 32).image
    with monkeypatch.context() as patch:
        patch.setattr(SceneCamera, "render", render)
        patch.setattr(cameras, "TIMEOUT_S", 0.01 if fail is None else 10.0)
        with pytest.raises(RobotError, match=words) as refused:
            arm.camera("wrist", 32, 32)
        assert refused.value.status == 503
        may_end.set()
    np.testing.assert_array_equal(before, arm.camera("wrist", 32, 32).image)


@pytest.mark.parametrize("name", sorted(SCENES))
def test_a_backend_names_the_cameras_of_its_scene(name):
    backend = MujocoBackend(name, is_lockstep=True)
    assert set(backend.cameras) == {"wrist", "side_1", "side_2"}
