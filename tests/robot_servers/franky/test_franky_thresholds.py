"""At which load the arm stops itself (SAFETY 1.2)."""

import pytest

from robot_servers.limits import SafetyLimits, load_limits
from serl_core.errors import ConfigError

RAISED_NM = (40.0, 40.0, 40.0, 40.0, 11.0, 11.0, 11.0)
RAISED_N = (50.0, 50.0, 50.0, 25.0, 25.0, 25.0)


def test_the_defaults_are_those_of_franka_ros():
    assert SafetyLimits().collision_torque_nm == (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    assert SafetyLimits().collision_force_n == (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)


def test_a_file_may_raise_them_as_far_as_is_recommended():
    limits = SafetyLimits(collision_torque_nm=RAISED_NM, collision_force_n=RAISED_N)
    assert limits.collision_torque_nm == RAISED_NM


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("collision_torque_nm", (40.1, *RAISED_NM[1:])),
        ("collision_torque_nm", (*RAISED_NM[:4], 17.0, 11.0, 11.0)),
        ("collision_force_n", (51.0, *RAISED_N[1:])),
        ("collision_force_n", (*RAISED_N[:3], 26.0, 25.0, 25.0)),
    ],
)
def test_beyond_that_it_takes_the_word_unsafe(name, values):
    with pytest.raises(ValueError, match=f"{name}.*unsafe_thresholds"):
        SafetyLimits(**{name: values})
    assert getattr(SafetyLimits(unsafe_thresholds=True, **{name: values}), name) == values


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_refused_always(value):
    with pytest.raises(ValueError, match=r"collision_force_n\[2\]"):
        SafetyLimits(unsafe_thresholds=True, collision_force_n=(20.0, 20.0, value, 25.0, 25.0, 25.0))


def test_a_file_with_such_a_threshold_is_refused(tmp_path):
    path = tmp_path / "limits.json"
    path.write_text('{"collision_force_n": [100, 100, 100, 25, 25, 25]}')
    with pytest.raises(ConfigError, match="unsafe_thresholds"):
        load_limits(path)
