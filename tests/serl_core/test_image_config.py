import math

import pytest

from serl_core.errors import ConfigError
from serl_core.image_config import CameraConfig, CameraSource, Crop, EncoderConfig


def crop(**changes):
    return Crop(**({"name": "near", "left": 0, "top": 0, "width": 8, "height": 8} | changes))


def realsense(**changes):
    return CameraConfig(name="wrist", source=CameraSource.REALSENSE, **changes)


BAD = [
    (lambda: crop(left=-1), "Crop 'near'", "left -1"),
    (lambda: crop(top=-3), "Crop 'near'", "top -3"),
    (lambda: crop(width=0), "Crop 'near'", "width 0"),
    (lambda: crop(height=0), "Crop 'near'", "height 0"),
    (lambda: CameraConfig(name="wrist", max_age_s=0.0), "CameraConfig.max_age_s of 'wrist'", "got 0.0"),
    (lambda: CameraConfig(name="wrist", max_age_s=math.inf), "CameraConfig.max_age_s of 'wrist'", "got inf"),
    (lambda: CameraConfig(name="wrist", height=15), "CameraConfig.height of 'wrist'", "got 15"),
    (lambda: CameraConfig(name="wrist", width=1025), "CameraConfig.width of 'wrist'", "got 1025"),
    (lambda: CameraConfig(name="wrist", capture=(15, 640)), "CameraConfig.capture of 'wrist'", "got (15, 640)"),
    (lambda: CameraConfig(name="wrist", capture=(480, 4097)), "CameraConfig.capture of 'wrist'", "got (480, 4097)"),
    (lambda: CameraConfig(name="wrist", capture_hz=30), "CameraConfig.capture_hz of 'wrist'", "source is 'robot'"),
    (lambda: CameraConfig(name="wrist", exposure_us=100.0), "CameraConfig.exposure_us of 'wrist'", "got 100.0"),
    (lambda: CameraConfig(name="wrist", depth_m=(0.1, 0.6)), "CameraConfig.depth_m of 'wrist'", "got (0.1, 0.6)"),
    (lambda: CameraConfig(name="wrist", playback_file="a.db3"), "CameraConfig.playback_file of 'wrist'", "got 'a.db3'"),
    (lambda: realsense(capture_hz=0), "CameraConfig.capture_hz of 'wrist'", "got 0"),
    (lambda: realsense(exposure_us=math.nan), "CameraConfig.exposure_us of 'wrist'", "got nan"),
    (lambda: realsense(depth_m=(0.6, 0.1)), "CameraConfig.depth_m of 'wrist'", "got (0.6, 0.1) m"),
    (lambda: realsense(depth_m=(0.1, math.inf)), "CameraConfig.depth_m of 'wrist'", "got (0.1, inf) m"),
    (lambda: realsense(depth_m=(-0.1, 1.0)), "CameraConfig.depth_m of 'wrist'", "got (-0.1, 1.0) m"),
    (lambda: EncoderConfig(copies=0), "EncoderConfig.copies", "got 0"),
    (lambda: EncoderConfig(copies=4), "EncoderConfig.copies", "got 4"),
]


@pytest.mark.parametrize(("make", "thing", "value"), BAD, ids=[f"{thing} {value}" for _, thing, value in BAD])
def test_a_bad_value_is_refused_in_one_sentence_that_names_the_thing_and_the_value(make, thing, value):
    with pytest.raises(ConfigError) as raised:
        make()
    message = str(raised.value)
    assert thing in message
    assert value in message
    assert "\n" not in message


def test_a_camera_has_an_image_for_each_crop_or_else_one_of_its_own_name():
    assert CameraConfig(name="wrist").image_names == ("wrist",)
    assert CameraConfig(name="wrist", crops=(crop(), crop(name="far"))).image_names == ("near", "far")


def test_depth_images_come_after_the_colour_images_that_they_belong_to():
    camera = realsense(depth_m=(0.1, 0.6), crops=(crop(), crop(name="far")))
    assert camera.picture_names == ("near", "far")
    assert camera.image_names == ("near", "far", "near_depth", "far_depth")
