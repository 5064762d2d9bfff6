"""Reports as the devices send them, through easyhid and pyspacemouse."""

import numpy as np
import pyspacemouse
import pytest

from actors.teleop.puck_device import PuckDevice
from serl_core.clock import ManualClock
from tests.actors.teleop.fake_hidapi import (
    ALL_UP,
    BOTH_DOWN,
    COMPACT,
    COMPACT_AT_REST,
    COMPACT_RIGHT,
    COMPACT_RIGHT_GROWING,
    LEFT_DOWN,
    RIGHT_DOWN,
    WIRELESS,
    WIRELESS_BATTERY,
    WIRELESS_RIGHT,
)

PATH = "/dev/hidraw1"


@pytest.fixture
def clock():
    return ManualClock(10.0)


@pytest.fixture
def device(hidapi, clock):
    hidapi.plug(PATH)
    puck = PuckDevice(now=clock)
    puck.open()
    yield puck
    puck.close()


# What the person does, and the reports of it: raw numbers count right, towards the person, and down.
GESTURES = [
    ([1, 0, 0, 0, 0, 0], "01 5e 01 00 00 00 00", "02 00 00 00 00 00 00"),  # right
    ([0, 1, 0, 0, 0, 0], "01 00 00 a2 fe 00 00", "02 00 00 00 00 00 00"),  # away
    ([0, 0, 1, 0, 0, 0], "01 00 00 00 00 a2 fe", "02 00 00 00 00 00 00"),  # up
    ([0, 0, 0, 1, 0, 0], "01 00 00 00 00 00 00", "02 5e 01 00 00 00 00"),  # the far edge rises
    ([0, 0, 0, 0, 1, 0], "01 00 00 00 00 00 00", "02 00 00 a2 fe 00 00"),  # the right edge sinks
    ([0, 0, 0, 0, 0, 1], "01 00 00 00 00 00 00", "02 00 00 00 00 a2 fe"),  # counter-clockwise
    ([0.5, -0.2, -0.1, 0.3, 0, 0], "01 af 00 46 00 23 00", "02 69 00 00 00 00 00"),
]


@pytest.mark.parametrize(("expected", "shift", "turn"), GESTURES)
def test_each_axis_has_the_stated_sign_where_shifts_and_turns_come_apart(hidapi, device, expected, shift, turn):
    hidapi.send(PATH, shift, turn)
    np.testing.assert_allclose(device.read(0.0).deflection, expected)


@pytest.mark.parametrize(("expected", "shift", "turn"), GESTURES)
def test_each_axis_has_the_stated_sign_where_all_six_come_at_once(hidapi, expected, shift, turn):
    hidapi.plug(PATH, ids=WIRELESS)
    device = PuckDevice()
    device.open()
    hidapi.send(PATH, shift + turn[2:])
    np.testing.assert_allclose(device.read(0.0).deflection, expected)
    device.close()


def test_a_push_beyond_the_end_of_the_travel_is_one(hidapi, device):
    hidapi.send(PATH, "01 ff 7f 00 80 00 00")
    np.testing.assert_array_equal(device.read(0.0).deflection[:3], [1.0, 1.0, 0.0])


def test_all_waiting_reports_are_read_and_the_newest_counts(hidapi, device):
    """One report a step, ten steps a second, acts on what was wished seconds ago: the device sends a hundred."""
    hidapi.send(PATH, *COMPACT_RIGHT_GROWING)
    assert device.read(0.0).deflection[0] == 0.5


def test_a_reading_has_the_time_of_the_last_motion_and_a_button_is_none(hidapi, device, clock):
    assert device.read(0.0).moved_s == -np.inf
    hidapi.send(PATH, *COMPACT_RIGHT)
    assert device.read(0.0).moved_s == 10.0
    clock.advance(1.0)
    hidapi.send(PATH, *LEFT_DOWN)
    assert device.read(0.0).moved_s == 10.0
    assert device.read(0.0).moved_s == 10.0  # nothing new: pyspacemouse returns its last state all the same
    hidapi.send(PATH, *COMPACT_AT_REST)
    assert device.read(0.0).moved_s == 11.0


def test_the_battery_of_a_wireless_device_is_no_motion(hidapi, clock):
    hidapi.plug(PATH, ids=WIRELESS)
    device = PuckDevice(now=clock)
    device.open()
    hidapi.send(PATH, *WIRELESS_RIGHT)
    device.read(0.0)
    clock.advance(1.0)
    hidapi.send(PATH, *WIRELESS_BATTERY)
    assert device.read(0.0).moved_s == 10.0
    device.close()


def test_buttons_are_held_pressed_and_let_go_by_name(hidapi, device, clock):
    assert device.read(0.0).buttons == ("LEFT", "RIGHT")
    hidapi.send(PATH, *LEFT_DOWN)
    reading = device.read(0.0)
    assert (reading.is_down, reading.pressed_s) == ((True, False), (10.0, -np.inf))
    clock.advance(1.0)
    hidapi.send(PATH, *BOTH_DOWN)
    reading = device.read(0.0)
    assert (reading.is_down, reading.pressed_s) == ((True, True), (10.0, 11.0))
    clock.advance(1.0)
    hidapi.send(PATH, *ALL_UP, *RIGHT_DOWN, *ALL_UP)  # all between two looks
    reading = device.read(0.0)
    assert (reading.is_down, reading.pressed_s) == ((False, False), (10.0, 12.0))


@pytest.mark.parametrize("info", pyspacemouse.get_device_specs().values(), ids=lambda info: info.name)
def test_every_device_that_pyspacemouse_knows_is_read(hidapi, info):
    hidapi.plug(PATH, ids=(info.vendor_id, info.product_id))
    device = PuckDevice()
    device.open()
    hidapi.send(PATH, "01 5e 01 00 00 00 00 00 00 00 00 00 00")
    reading = device.read(0.0)
    np.testing.assert_array_equal(reading.deflection, [1, 0, 0, 0, 0, 0])
    assert reading.buttons == tuple(info.button_names)
    device.close()


def test_nothing_is_pushed_or_held_on_a_lost_device_and_the_next_connection_is_another(hidapi, device):
    hidapi.send(PATH, *COMPACT_RIGHT, *LEFT_DOWN)
    before = device.read(0.0)
    hidapi.unplug(PATH)
    with pytest.raises(Exception, match="Failed to read"):
        device.read(0.0)
    lost = device.lost()
    assert not lost.is_connected
    assert (lost.is_down, lost.buttons) == ((), ())
    np.testing.assert_array_equal(lost.deflection, np.zeros(6))
    device.close()
    hidapi.plug(PATH, ids=COMPACT)
    device.open()
    assert device.read(0.0).connection == before.connection + 1


def test_closing_twice_is_safe_and_lets_the_device_go(hidapi, device):
    assert hidapi.open_now == 1
    device.close()
    device.close()
    assert hidapi.open_now == 0
