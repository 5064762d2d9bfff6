import dataclasses
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
    SafetyBox,
    TaskConfig,
)
from serl_core.errors import ConfigError
from serl_core.types import ActionBlock

DOWN = (1.0, 0.0, 0.0, 0.0)


def reset_at(*position, **changes):
    return dataclasses.replace(CONFIG.reset, pose=(*position, *DOWN), **changes)


def changed(**changes):
    return lambda: dataclasses.replace(CONFIG, **changes)


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


def test_a_config_comes_back_from_its_json():
    assert msgspec.json.decode(CONFIG.to_json(), type=TaskConfig) == CONFIG


def test_the_digest_changes_with_any_value_and_with_nothing_else():
    assert CONFIG.digest() == dataclasses.replace(CONFIG).digest()
    assert CONFIG.digest() != dataclasses.replace(CONFIG, time_limit_steps=101).digest()
    assert CONFIG.digest() != changed(reset=reset_at(0.51, 0.0, 0.12))().digest()
