import dataclasses
import hashlib
import math

import msgspec
import pytest

from examples.ram_insertion import CONFIG
from serl_core.config import (
    ActionConfig,
    ObservationConfig,
    ProprioTerm,
    ResetConfig,
    RewardConfig,
    RewardKind,
    SafetyBox,
    TaskConfig,
)
from serl_core.errors import ConfigError
from serl_core.image_config import CameraConfig, CameraSource, Crop, EncoderConfig, EncoderKind, FrameFormat, ImageMode
from serl_core.types import ActionBlock

DOWN = (1.0, 0.0, 0.0, 0.0)


def reset_at(*position, **changes):
    return dataclasses.replace(CONFIG.reset, pose=(*position, *DOWN), **changes)


def changed(**changes):
    return lambda: dataclasses.replace(CONFIG, **changes)


def crop(name="near", **changes):
    return Crop(**({"name": name, "left": 0, "top": 0, "width": 8, "height": 8} | changes))


def realsense(**changes):
    return CameraConfig(**({"name": "wrist", "source": CameraSource.REALSENSE, "device": "42"} | changes))


def seen(*cameras, **encoder):
    """Return a task with cameras."""
    observation = ObservationConfig(cameras=cameras or (CameraConfig(name="wrist"),), encoder=EncoderConfig(**encoder))
    return dataclasses.replace(CONFIG, observation=observation)


BAD = [
    (lambda: SafetyBox(low_m=(0.6, -0.1, 0.0), high_m=(0.4, 0.1, 0.2)), "SafetyBox.x", "0.6 m and 0.4 m"),
    (lambda: SafetyBox(low_m=(0.4, -0.1, math.nan), high_m=(0.6, 0.1, 0.2)), "SafetyBox.z", "nan"),
    (lambda: dataclasses.replace(CONFIG.box, max_tilt_rad=4.0), "max_tilt_rad", "4.0"),
    (lambda: ResetConfig(pose=(0.5, 0.0, 0.1, 1.0, 1.0, 0.0, 0.0)), "ResetConfig.pose", "norm 1.414"),
    (lambda: ResetConfig(pose=(math.inf, 0.0, 0.1, *DOWN)), "ResetConfig.pose", "inf"),
    (lambda: reset_at(0.5, 0.0, 0.12, tries=0), "ResetConfig.tries", "got 0"),
    (lambda: reset_at(0.5, 0.0, 0.12, tolerance_m=0.0), "ResetConfig.tolerance_m", "got 0.0"),
    (lambda: reset_at(0.5, 0.0, 0.12, randomise_m=(0.0, -0.1, 0.0)), "randomise_m.y", "got -0.1"),
    (lambda: reset_at(0.5, 0.0, 0.12, randomise_rz_rad=7.0), "randomise_rz_rad", "got 7.0"),
    (lambda: RewardConfig(tolerance_rad=math.nan), "RewardConfig.tolerance_rad", "nan"),
    (lambda: ObservationConfig(proprio=()), "ObservationConfig.proprio", "not empty"),
    (lambda: ObservationConfig(proprio=(ProprioTerm.Q, ProprioTerm.Q)), "ObservationConfig.proprio", "unique"),
    (lambda: RewardConfig(frames=0), "RewardConfig.frames", "got 0"),
    (lambda: RewardConfig(tcp_z_m=(0.05, math.nan)), "RewardConfig.tcp_z_m", "nan"),
    (lambda: RewardConfig(tcp_z_m=(0.06, 0.05)), "RewardConfig.tcp_z_m", "0.06"),
    (lambda: seen(CameraConfig(name="a"), CameraConfig(name="a")), "names of cameras must be unique", "['a', 'a']"),
    (
        lambda: seen(CameraConfig(name="a", crops=(crop("b"),)), CameraConfig(name="b")),
        "names of images must be unique",
        "['b', 'b']",
    ),
    (
        lambda: seen(realsense(depth_m=(0.1, 0.6)), CameraConfig(name="wrist_depth")),
        "names of images must be unique",
        "'wrist_depth'",
    ),
    (lambda: seen(CameraConfig(name="../etc")), "ObservationConfig.cameras", "'../etc'"),
    (lambda: seen(CameraConfig(name="wrist", crops=(crop("a/b"),))), "ObservationConfig.cameras", "'a/b'"),
    (lambda: seen(CameraConfig(name="")), "ObservationConfig.cameras", "got ''"),
    (lambda: seen(CameraConfig(name="a\n")), "ObservationConfig.cameras", "'a\\n'"),
    (lambda: seen(CameraConfig(name="x" * 33)), "1 to 32 letters", "x" * 33),
    (changed(reward=RewardConfig(kind=RewardKind.CLASSIFIER)), "RewardConfig.kind", "no camera"),
    (changed(control_hz=0.5), "TaskConfig.control_hz", "got 0.5"),
    (changed(time_limit_steps=0), "TaskConfig.time_limit_steps", "got 0"),
    (changed(target_pose=(0.5, 0.0, 0.058, 0.0, 0.0, 0.0, 0.0)), "TaskConfig.target_pose", "norm 0.000"),
    (changed(target_pose=(0.5, 0.0, 0.3, *DOWN)), "TaskConfig.target_pose", "outside the SafetyBox"),
    (changed(action=ActionConfig(translation_m=0.05)), "ActionConfig.translation_m", "at most 0.025 m"),
    (changed(action=ActionConfig(rotation_rad=0.2)), "ActionConfig.rotation_rad", "at most 0.1 rad"),
    (changed(action=ActionConfig(translation_m=-0.01)), "ActionConfig.translation_m", "above 0"),
    (changed(action=ActionConfig(rotation_rad=math.nan)), "ActionConfig.rotation_rad", "nan"),
    (changed(control_hz=50.0), "ActionConfig.translation_m", "0.75 m/s"),
    (changed(reset=reset_at(0.5, 0.0, 0.5)), "ResetConfig.pose", "outside the SafetyBox"),
    (changed(reset=reset_at(0.5, 0.03, 0.12)), "randomise_m", "0.070"),
    (changed(reset=reset_at(0.5, 0.0, 0.12, lift_to_z_m=0.4)), "ResetConfig.lift_to_z_m", "0.400"),
    (changed(reset=ResetConfig(pose=(0.5, 0.0, 0.12, 0.0, 0.0, 0.0, 1.0))), "tilted 3.14 rad", "0.5 rad"),
]


@pytest.mark.parametrize(("make", "thing", "value"), BAD, ids=[f"{thing} {value}" for _, thing, value in BAD])
def test_a_bad_value_is_refused_in_one_sentence_that_names_the_thing_and_the_value(make, thing, value):
    with pytest.raises(ConfigError) as raised:
        make()
    message = str(raised.value)
    assert thing in message
    assert value in message
    assert "\n" not in message


def test_a_pose_beyond_the_arms_reach_is_refused():
    with pytest.raises(ConfigError, match=r"1\.20 m from the shoulder; the arm reaches 0\.855 m"):
        TaskConfig(
            name="far",
            box=SafetyBox(low_m=(0.1, -0.5, 0.0), high_m=(1.5, 0.5, 0.5)),
            target_pose=(1.2, 0.0, 0.2, *DOWN),
            reset=ResetConfig(pose=(0.5, 0.0, 0.2, *DOWN)),
        )


def test_the_learner_knows_all_shapes_without_hardware():
    spec = CONFIG.env_spec()
    assert (spec.proprio_size, spec.action.size, spec.control_hz) == (18, 6, 10.0)


def test_a_gripper_is_one_more_block():
    assert ActionConfig(has_gripper=True).spec.blocks == (ActionBlock("twist", 6), ActionBlock("gripper", 1))


def test_the_images_are_the_crops_or_else_the_whole_frame_in_the_size_of_their_camera():
    task = seen(
        CameraConfig(name="wrist"),
        CameraConfig(name="side", height=64, width=96, crops=(crop("near"), crop("far"))),
    )
    shapes = {"wrist": (128, 128, 3), "near": (64, 96, 3), "far": (64, 96, 3)}
    assert task.env_spec().image_shapes == shapes
    assert list(task.env_spec().image_shapes) == list(shapes)


def test_with_depth_each_image_has_a_depth_image_of_its_size_and_another_origin():
    task = seen(realsense(depth_m=(0.1, 0.6), crops=(crop("near"), crop("far"))))
    names = ["near", "far", "near_depth", "far_depth"]
    assert list(task.env_spec().image_shapes) == names
    assert set(task.env_spec().image_shapes.values()) == {(128, 128, 3)}
    origins = task.observation.image_origins
    assert sorted(origins) == sorted(names)
    assert origins["near_depth"] == f"{origins['near']}, depth 0.1 to 0.6 m"


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        seen(realsense(capture_hz=30, exposure_us=5000.0, depth_m=(0.1, 0.6), playback_file="a.db3")),
        seen(CameraConfig(name="side", crops=(crop(),)), kind=EncoderKind.SMALL, copies=2),
    ],
)
def test_a_config_comes_back_from_its_json(config):
    assert msgspec.json.decode(config.to_json(), type=TaskConfig) == config


def test_the_digest_changes_with_any_value_and_with_nothing_else():
    assert CONFIG.digest() == dataclasses.replace(CONFIG).digest()
    assert CONFIG.digest() != dataclasses.replace(CONFIG, time_limit_steps=101).digest()
    assert CONFIG.digest() != changed(reset=reset_at(0.51, 0.0, 0.12))().digest()


@pytest.mark.parametrize(
    "other",
    [
        {"kind": EncoderKind.RANDOM},
        {"kind": EncoderKind.SMALL, "weights": "mine.safetensors"},
        {"mode": ImageMode.PIXELS},
        {"copies": 2},
        {"log_format": FrameFormat.JPEG},
    ],
    ids=lambda other: "-".join(other),
)
def test_the_digest_takes_the_encoder_that_is_in_use_for_the_one_that_is_asked_for(other):
    """`auto` is another encoder on another machine, and the log's format is nobody's business."""
    assert seen(**other).digest() == seen().digest()
    assert seen(**other).digest("small-1") == seen().digest("small-1") == f"{seen().digest()}+small-1"


def test_a_camera_without_newer_fields_has_the_digest_from_before_there_were_any():
    """Runs, demonstrations and policies from before `capture` and RealSense's fields stay usable."""
    config = msgspec.to_builtins(seen())
    for name in ("capture", "capture_hz", "exposure_us", "depth_m", "playback_file"):
        del config["observation"]["cameras"][0][name]
    encoded = msgspec.json.encode(config, order="sorted")
    assert seen().digest() == hashlib.sha256(encoded).hexdigest()[:16]


def test_the_digest_changes_with_what_the_cameras_show():
    digests = [
        task.digest()
        for task in (
            CONFIG,
            seen(),
            seen(CameraConfig(name="wrist", height=64)),
            seen(CameraConfig(name="wrist", capture=(480, 640))),
            seen(CameraConfig(name="side")),
            seen(realsense()),
            seen(realsense(capture_hz=30)),
            seen(realsense(exposure_us=5000.0)),
            seen(realsense(depth_m=(0.1, 0.6))),
            seen(realsense(depth_m=(0.1, 0.7))),
            seen(realsense(playback_file="a.db3")),
        )
    ]
    assert len(set(digests)) == len(digests)
