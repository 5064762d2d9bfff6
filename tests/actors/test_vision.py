import dataclasses
import sys

import numpy as np
import pytest

from actors.cameras.depth import stack
from actors.cameras.interface import Frame
from actors.cameras.robot import PolledRobotCamera, RobotCamera
from actors.cameras.uvc import UvcCamera
from actors.vision import FIRST_FRAMES_S, CameraVision, cut, make_camera, resize
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.config import ObservationConfig
from serl_core.envs.vision import Vision
from serl_core.errors import CameraFault, ConfigError
from serl_core.image_config import CameraConfig, CameraSource, Crop
from serl_core.testing.fakes import CameraFailure, FakeRobot


class ListedCamera:
    """Shows what its test puts there."""

    def __init__(self):
        self.is_open = False
        self.error = self.why = None
        self.shown = None

    def show(self, image, captured_s=0.0):
        self.shown = Frame(image, captured_s)

    def open(self):
        if self.error:
            raise self.error
        self.is_open = True

    def close(self):
        self.is_open = False

    def latest(self):
        return self.shown

    def problem(self):
        return self.why


WRIST = CameraConfig(name="wrist", height=16, width=24)
SIDE = CameraConfig(
    name="side",
    height=16,
    width=16,
    crops=(
        Crop(name="near", left=4, top=8, width=16, height=16),
        Crop(name="far", left=0, top=0, width=40, height=40),
    ),
)
PICTURE = np.random.default_rng(0).integers(10, 250, (48, 64, 3), dtype=np.uint8)
FITTING = PICTURE[:16, :24].copy()


class Room:
    """Two cameras on one clock, and the vision that reads them."""

    def __init__(self, **options):
        self.clock = ManualClock()
        self.cameras = {"wrist": ListedCamera(), "side": ListedCamera()}
        self.cameras["wrist"].show(FITTING)
        self.cameras["side"].show(PICTURE)
        self.waits = 0
        self.vision = CameraVision(
            ObservationConfig(cameras=(WRIST, SIDE)),
            now=self.clock,
            sleep=self.sleep,
            make=lambda config, robot, now: self.cameras[config.name],
            **options,
        )

    def sleep(self, duration_s):
        self.waits += 1
        self.clock.advance(duration_s)

    def open(self):
        self.vision.open(robot())
        return self.vision

    @property
    def are_open(self):
        return [camera.is_open for camera in self.cameras.values()]


def robot(**options):
    fake = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, **options)
    fake.connect()
    return fake


def test_a_look_has_every_crop_of_every_camera_in_the_configs_sizes():
    vision = Room().open()
    assert isinstance(vision, Vision)
    sight = vision.look()
    assert {name: image.shape for name, image in sight.images.items()} == vision._config.image_shapes
    np.testing.assert_array_equal(sight.images["wrist"], FITTING)
    np.testing.assert_array_equal(sight.images["near"], PICTURE[8:24, 4:20])
    assert not any(image.flags.writeable for image in sight.images.values())
    assert sight.features == {}
    assert sight.success_probability is None


def test_a_picture_of_the_right_size_is_not_copied():
    assert np.shares_memory(resize(FITTING, 16, 24), FITTING)


def test_shrinking_averages_over_areas():
    """Linear interpolation would skip pixels, so that a thin edge flickers as it moves."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    np.testing.assert_array_equal(resize(stripes, 16, 16), np.full((16, 16, 3), 50, np.uint8))


def test_enlarging_interpolates():
    step = np.zeros((16, 16, 3), np.uint8)
    step[:, 8:] = 200
    row = resize(step, 16, 64)[5, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(set(row.tolist())) > 3


@pytest.mark.parametrize("size", [16, 100])
def test_depth_is_cut_out_below_its_picture_and_between_two_depths_is_nothing(size):
    """A mean of an edge's depth and "unknown" would be a surface that is not there."""
    picture = np.full((48, 64, 3), 90, np.uint8)
    depth = np.zeros_like(picture)
    depth[:, 1::3] = 200
    crop = Crop(name="near", left=4, top=8, width=40, height=40)
    config = CameraConfig(
        name="x", source=CameraSource.REALSENSE, height=size, width=size, crops=(crop,), depth_m=(0.1, 0.6)
    )
    images = cut(stack(picture, depth), config)
    assert list(images) == ["near", "near_depth"]
    assert {image.shape for image in images.values()} == {(size, size, 3)}
    assert not any(image.flags.writeable for image in images.values())
    assert (images["near"] == 90).all()
    assert set(np.unique(images["near_depth"])) == {0, 200}
    same = dataclasses.replace(config, height=40, width=40)
    np.testing.assert_array_equal(cut(stack(picture, depth), same)["near_depth"], depth[8:48, 4:44])


def test_a_crop_that_leaves_the_picture_is_an_error_although_depth_lies_below_it():
    crop = Crop(name="near", left=0, top=40, width=16, height=16)
    config = CameraConfig(name="x", source=CameraSource.REALSENSE, crops=(crop,), depth_m=(0.1, 0.6))
    with pytest.raises(ConfigError, match="rows 40 to 56 leave the frame of 64 columns and 48 rows"):
        cut(stack(PICTURE, PICTURE), config)


def test_opencv_is_needed_only_to_resize(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    resize(FITTING, 16, 24)
    with pytest.raises(ConfigError, match=r"serl\[vision\]"):
        resize(PICTURE, 16, 24)


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        (
            Crop(name="c", left=40, top=0, width=30, height=20),
            r"columns 40 to 70 and rows 0 to 20 leave the frame of 64",
        ),
        (Crop(name="c", left=0, top=40, width=20, height=9), "rows 40 to 49 leave the frame of 64 columns and 48 rows"),
    ],
    ids=["right", "bottom"],
)
def test_a_crop_that_leaves_the_frame_is_an_error(crop, words):
    with pytest.raises(ConfigError, match=f"Crop 'c' of camera 'side': .*{words}"):
        cut(PICTURE, CameraConfig(name="side", crops=(crop,)))


def test_a_crop_up_to_the_frames_edge_is_allowed():
    crop = Crop(name="c", left=48, top=32, width=16, height=16)
    images = cut(PICTURE, CameraConfig(name="side", height=16, width=16, crops=(crop,)))
    np.testing.assert_array_equal(images["c"], PICTURE[32:, 48:])


def test_a_crop_that_leaves_the_frame_is_found_at_open_and_nothing_stays_open():
    room = Room()
    room.cameras["side"].show(PICTURE[:30])
    with pytest.raises(ConfigError, match="'far'"):
        room.open()
    assert room.are_open == [False, False]


def test_a_picture_that_is_too_old_is_a_fault_until_a_fresh_one_comes():
    room = Room()
    vision = room.open()
    room.clock.advance(0.5)
    vision.look()
    room.clock.advance(0.25)
    room.cameras["wrist"].show(FITTING, captured_s=0.7)
    room.cameras["side"].why = "unplugged"
    with pytest.raises(CameraFault, match=r"'side'.*0\.75 s old, at most 0\.5 s.*\(unplugged\).*cable"):
        vision.look()
    room.cameras["side"].show(PICTURE, captured_s=0.75)
    assert vision.look().images["wrist"].shape == (16, 24, 3)


def test_no_picture_is_a_fault():
    room = Room()
    vision = room.open()
    room.cameras["wrist"].shown = None
    with pytest.raises(CameraFault, match="'wrist': there is no picture;"):
        vision.look()


def test_a_picture_of_another_size_than_at_first_is_a_fault():
    """Crops of it would show another part of the scene."""
    room = Room()
    vision = room.open()
    room.cameras["side"].show(np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(CameraFault, match=r"'side'.*now of shape \(96, 128, 3\), they were \(48, 64, 3\)"):
        vision.look()
    room.cameras["side"].show(PICTURE)
    vision.look()


def test_looking_before_open_or_after_close_is_a_fault():
    room = Room()
    with pytest.raises(CameraFault, match="not open"):
        room.vision.look()
    room.open().close()
    room.vision.close()
    assert room.are_open == [False, False]
    with pytest.raises(CameraFault, match="not open"):
        room.vision.look()


def test_open_waits_for_the_first_pictures():
    room = Room()
    room.cameras["side"].shown = None

    def sleep(duration_s):
        room.clock.advance(1.0)
        if room.clock() == 3.0:
            for camera, picture in (("side", PICTURE), ("wrist", FITTING)):
                room.cameras[camera].show(picture, captured_s=3.0)

    room.vision._sleep = sleep
    room.open().look()
    assert room.clock() == 3.0


def test_open_gives_up_on_a_camera_that_stays_away_and_closes_all():
    room = Room()
    room.cameras["side"].shown, room.cameras["side"].why = None, "unplugged"
    room.cameras["wrist"].show(FITTING, captured_s=2 * FIRST_FRAMES_S)
    with pytest.raises(CameraFault, match=r"'side'.*unplugged"):
        room.open()
    assert FIRST_FRAMES_S <= room.clock() < FIRST_FRAMES_S + 0.1
    assert room.are_open == [False, False]


def test_a_camera_that_cannot_be_opened_closes_those_before_it():
    room = Room()
    room.cameras["side"].error = ConfigError("no such camera")
    with pytest.raises(ConfigError, match="no such camera"):
        room.open()
    assert room.are_open == [False, False]


def test_the_encoder_and_the_classifier_run_once_for_a_picture_and_once_before_anything_moves():
    calls = []

    def encode(images):
        calls.append(list(images))
        return {name: np.zeros((2, 2, 1), np.float16) for name in images}

    def classify(images, features):
        assert list(features) == list(images)
        return np.float32(0.75)

    room = Room(encode=encode, classify=classify, success_threshold=0.9)
    vision = room.open()
    assert calls == [["wrist", "near", "far"]]
    room.cameras["side"].show(PICTURE, captured_s=0.1)
    sight = vision.look()
    assert calls == [["wrist", "near", "far"]] * 2
    assert list(sight.features) == ["wrist", "near", "far"]
    assert (sight.success_probability, vision.success_threshold) == (0.75, 0.9)
    assert isinstance(sight.success_probability, float)


def test_while_no_camera_has_a_new_frame_the_sight_is_the_very_same_and_is_not_encoded_again():
    """The classifier's vote on one picture counted in every step that it was still the newest."""
    encoded = []
    room = Room(encode=lambda images: encoded.append(images) or {})
    vision = room.open()
    first = vision.look()
    room.clock.advance(0.1)
    assert vision.look() is first
    assert len(encoded) == 1
    room.cameras["side"].show(PICTURE, captured_s=0.1)
    second = vision.look()
    assert second is not first
    assert vision.look() is second
    assert len(encoded) == 2


def test_a_sight_is_as_old_as_its_oldest_picture():
    room = Room()
    room.cameras["side"].show(PICTURE, captured_s=0.2)
    room.clock.advance(0.3)
    vision = room.open()
    assert vision.look().captured_s == 0.0
    room.cameras["wrist"].show(FITTING, captured_s=0.3)
    assert vision.look().captured_s == 0.2


def test_an_old_picture_that_was_interpreted_once_is_a_fault_all_the_same():
    room = Room()
    vision = room.open()
    vision.look()
    room.clock.advance(0.6)
    with pytest.raises(CameraFault, match=r"0\.60 s old"):
        vision.look()


def test_after_closing_nothing_old_is_seen():
    room = Room()
    vision = room.open()
    sight = vision.look()
    vision.close()
    assert room.open().look() is not sight


@pytest.mark.parametrize("options", [{"success_threshold": 0.5}, {"classify": lambda images, features: 0.0}])
def test_a_classifier_and_its_threshold_come_together(options):
    with pytest.raises(ConfigError, match="success_threshold come together"):
        Room(**options)


@pytest.mark.parametrize(
    ("config", "is_lockstep", "kind"),
    [
        (CameraConfig(name="wrist"), True, RobotCamera),
        (CameraConfig(name="wrist"), False, PolledRobotCamera),
        (CameraConfig(name="wrist", source=CameraSource.UVC, device="0"), True, UvcCamera),
    ],
)
def test_the_source_decides_the_kind_of_camera(config, is_lockstep, kind):
    assert type(make_camera(config, robot(is_lockstep=is_lockstep), ManualClock())) is kind


@pytest.mark.parametrize("capture", [None, (720, 1280)])
def test_a_webcam_is_asked_for_the_configs_capture(capture):
    """The size was never passed on: crops of the device's own choice show another part of the scene."""
    config = CameraConfig(name="wrist", source=CameraSource.UVC, device="0", capture=capture)
    assert make_camera(config, robot(), ManualClock())._source._size == capture


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (CameraConfig(name="x", device="side_1", height=32, width=48), (32, 48, 3)),
        (
            CameraConfig(name="x", device="side_1", crops=(Crop(name="y", left=0, top=0, width=9, height=9),)),
            (480, 640, 3),
        ),
        (
            CameraConfig(
                name="x",
                device="side_1",
                capture=(60, 80),
                crops=(Crop(name="y", left=0, top=0, width=9, height=9),),
            ),
            (60, 80, 3),
        ),
        (CameraConfig(name="x", device="side_1", capture=(60, 80)), (60, 80, 3)),
    ],
    ids=["whole", "cropped", "captured", "captured whole"],
)
def test_a_robots_camera_is_asked_by_its_device_for_the_size_that_is_needed(config, shape):
    arm = robot()
    expected = arm.camera("side_1", *shape[:2]).image
    np.testing.assert_array_equal(make_camera(config, arm, ManualClock()).latest().image, expected)


def test_on_a_robot_in_lockstep_pictures_may_take_any_time_and_each_look_has_new_ones():
    """Simulated time stands still meanwhile; a slow renderer ended the episode as a camera's fault."""
    clock = ManualClock()

    class Slow(FakeRobot):
        def camera(self, name, height=128, width=128):
            clock.advance(2.0)
            return super().camera(name, height, width)

    arm = Slow(CONFIG.reset.pose, CONFIG.target_pose)
    arm.connect()
    cameras = (CameraConfig(name="wrist"), CameraConfig(name="side_1"))
    vision = CameraVision(ObservationConfig(cameras=cameras), now=clock, sleep=clock.advance)
    vision.open(arm)
    assert vision.look() is not vision.look()


def test_on_a_robot_in_lockstep_a_look_shows_the_present_state_and_outlives_a_lost_camera():
    arm = robot()
    vision = CameraVision(ObservationConfig(cameras=(CameraConfig(name="wrist"),)))
    vision.open(arm)
    before = vision.look()
    arm.step(CONFIG.target_pose, 0.1)
    assert not np.array_equal(vision.look().images["wrist"], before.images["wrist"])
    arm.fail_camera("wrist", CameraFailure.GONE)
    with pytest.raises(CameraFault, match="gives no picture"):
        vision.look()
    arm.fail_camera("wrist", None)
    vision.look()
    vision.close()


def test_an_operator_sees_what_the_actors_own_cameras_show_now_and_what_was_last_looked_at_of_the_robots():
    config = ObservationConfig(
        cameras=(
            dataclasses.replace(WRIST, source=CameraSource.UVC, device="0"),
            dataclasses.replace(WRIST, name="far"),
        )
    )
    cameras = {"wrist": ListedCamera(), "far": ListedCamera()}
    for camera in cameras.values():
        camera.show(FITTING)
    clock = ManualClock()
    vision = CameraVision(config, now=clock, sleep=clock.sleep, make=lambda config, *_: cameras[config.name])
    assert vision.newest_frames() == {}
    vision.open(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose))
    clock.advance(60.0)  # much later, during a pause
    for camera in cameras.values():
        camera.show(FITTING, clock())
    assert {name: frame.captured_s for name, frame in vision.newest_frames().items()} == {"wrist": 60.0, "far": 0.0}
    vision.close()
    assert vision.newest_frames() == {}
