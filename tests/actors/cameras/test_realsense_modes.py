import pytest

from actors.cameras.realsense_modes import Mode, colour_sensor, modes, require_mode
from serl_core.errors import ConfigError
from tests.actors.cameras.realsense_recording import HEIGHT, HZ, WIDTH, SoftCamera


@pytest.mark.parametrize("kind", ["colour", "depth"])
def test_the_modes_are_what_the_device_offers(kind):
    assert modes(SoftCamera().device, kind) == [Mode(HEIGHT, WIDTH, HZ)]


@pytest.mark.parametrize("asked", [Mode(0, 0, 0), Mode(HEIGHT, WIDTH, 0), Mode(0, 0, HZ), Mode(HEIGHT, WIDTH, HZ)])
def test_what_is_offered_may_be_asked_for_and_so_may_anything(asked):
    require_mode(SoftCamera().device, "colour", asked)


@pytest.mark.parametrize("asked", [Mode(WIDTH, HEIGHT, 0), Mode(HEIGHT, WIDTH, 15), Mode(0, 0, 15)])
def test_what_is_not_offered_is_refused_with_what_is(asked):
    with pytest.raises(ConfigError, match=r"there are \(48, 64\) at 30 Hz: set CameraConfig\.capture and capture_hz"):
        require_mode(SoftCamera().device, "colour", asked)


def test_the_colour_sensor_is_the_one_that_gives_colour():
    camera = SoftCamera()
    assert colour_sensor(camera.device).name == "RGB Camera"


def test_a_device_without_colour_is_refused():
    device = SoftCamera().rs.software_device()
    device.add_sensor("Motion Module")
    with pytest.raises(ConfigError, match="no colour pictures"):
        colour_sensor(device)
