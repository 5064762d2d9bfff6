import pytest

from actors.cameras.realsense_exposure import exposure_value, set_exposure
from serl_core.errors import ConfigError
from tests.actors.cameras.realsense_recording import SoftCamera


def sensor(kind="RGB Camera", exposure=(1, 10000, 156)):
    camera = SoftCamera(exposure=exposure, sensor=kind, has_depth=False)
    return camera.colour, camera.rs.option


@pytest.mark.parametrize(
    ("kind", "exposure_us", "value"),
    [
        ("RGB Camera", 8500.0, 85.0),  # a colour sensor counts 0.1 ms
        ("RGB Camera", 8540.0, 85.0),
        ("RGB Camera", 8560.0, 86.0),
        ("RGB Camera", 100.0, 1.0),
        ("RGB Camera", 1e6, 10000.0),
        ("Stereo Module", 8500.0, 8500.0),  # which gives the colour of some cameras, and counts microseconds
    ],
)
def test_microseconds_become_the_sensors_own_unit(kind, exposure_us, value):
    colour, option = sensor(kind)
    assert exposure_value(colour, exposure_us) == value
    set_exposure(colour, exposure_us)
    assert (colour.get_option(option.exposure), colour.get_option(option.enable_auto_exposure)) == (value, 0.0)


@pytest.mark.parametrize("exposure_us", [99.0, 1.1e6])
def test_an_exposure_out_of_range_is_refused_in_microseconds_and_nothing_is_set(exposure_us):
    colour, option = sensor()
    with pytest.raises(ConfigError, match=r"must be 100 to 1e\+06 us, got .*CameraConfig\.exposure_us"):
        set_exposure(colour, exposure_us)
    assert (colour.get_option(option.exposure), colour.get_option(option.enable_auto_exposure)) == (156.0, 1.0)


def test_what_another_program_fixed_becomes_automatic():
    colour, option = sensor()
    set_exposure(colour, 8500.0)
    set_exposure(colour, None)
    assert colour.get_option(option.enable_auto_exposure) == 1.0


def test_a_sensor_without_the_option_is_left_alone_or_refused():
    colour, _ = sensor(exposure=None)
    set_exposure(colour, None)
    with pytest.raises(ConfigError, match=r"no exposure that could be set to 8500 us; leave CameraConfig\.exposure_us"):
        set_exposure(colour, 8500.0)
