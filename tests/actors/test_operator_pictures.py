import numpy as np
import pytest

from actors.cameras.depth import stack
from actors.cameras.interface import Frame
from actors.operator_pictures import PERIOD_S, OperatorPictures, to_jpeg
from serl_core.clock import ManualClock
from serl_core.image_config import CameraConfig, CameraSource
from serl_core.operator.messages import MAX_JPEG_BYTES, Picture, PictureRequest, encode
from serl_core.robots.messages import PictureFormat
from serl_core.robots.pictures import unpack

RED = np.zeros((48, 64, 3), np.uint8)
RED[..., 0] = 200
WRIST = CameraConfig(name="wrist", source=CameraSource.UVC, device="0")
DEEP = CameraConfig(name="deep", source=CameraSource.REALSENSE, depth_m=(0.2, 1.0))
SIDE = CameraConfig(name="side")


@pytest.fixture
def clock():
    return ManualClock(100.0)


def pictures(clock, frames, cameras=(WRIST, DEEP, SIDE)):
    return OperatorPictures(lambda: frames, cameras, now=clock)


def test_the_newest_picture_of_the_actors_own_camera_is_given_at_the_size_that_was_asked_for(clock):
    picture = pictures(clock, {"wrist": Frame(RED, 99.9)}).picture(PictureRequest(name="wrist", side=32))
    assert (picture.name, picture.stamp_s) == ("wrist", 99.9)
    image = unpack(picture.jpeg, PictureFormat.JPEG, 24, 32)
    np.testing.assert_allclose(image[12, 16], [200, 0, 0], atol=8)


def test_a_picture_is_never_made_larger(clock):
    picture = pictures(clock, {"wrist": Frame(RED, 0.0)}).picture(PictureRequest(name="wrist", side=1024))
    assert unpack(picture.jpeg, PictureFormat.JPEG, 48, 64) is not None


def test_of_a_camera_with_depth_the_colours_are_shown(clock):
    frame = Frame(stack(RED, np.zeros_like(RED)), 0.0)
    picture = pictures(clock, {"deep": frame}).picture(PictureRequest(name="deep"))
    assert unpack(picture.jpeg, PictureFormat.JPEG, 48, 64)[24, 32, 0] > 150


@pytest.mark.parametrize("name", ["side", "none", "deep"], ids=["at the robot", "unknown", "no frame yet"])
def test_where_there_is_no_picture_there_is_no_answer(clock, name):
    assert pictures(clock, {"side": Frame(RED, 0.0)}).picture(PictureRequest(name=name)) is None


def test_there_are_about_ten_pictures_a_second_of_each_camera_at_most(clock):
    offered = pictures(clock, {"wrist": Frame(RED, 0.0), "deep": Frame(stack(RED, RED), 0.0)})

    def ask(name):
        return offered.picture(PictureRequest(name=name)) is not None

    assert [ask("wrist"), ask("wrist"), ask("deep")] == [True, False, True]
    clock.advance(PERIOD_S + 1e-3)
    assert ask("wrist")


def test_the_age_of_every_picture_is_known(clock):
    ages = pictures(clock, {"wrist": Frame(RED, 99.5), "side": Frame(RED, 99.0)}).age_s()
    assert ages == pytest.approx({"wrist": 0.5, "side": 1.0})


def test_the_hardest_picture_still_fits_into_a_message():
    noise = np.random.default_rng(0).integers(256, size=(1024, 1024, 3)).astype(np.uint8)
    jpeg = to_jpeg(noise, 320)
    assert len(jpeg) <= MAX_JPEG_BYTES
    encode(Picture(name="wrist", stamp_s=0.0, jpeg=jpeg))
    assert to_jpeg(noise, 1024) is None
