import os
import sys

import pytest

from actors.teleop.puck_device import PuckDevice
from actors.teleop.puck_search import connected_hids
from serl_core.errors import ConfigError
from tests.actors.teleop.fake_hidapi import COMPACT, RECEIVER

MOUSE, KEYBOARD, SIX_AXES = (1, 2), (1, 6), (1, 8)


def opened(hidapi, device=None):
    puck = PuckDevice(device)
    puck.open()
    puck.close()
    return hidapi.opened[-1]


def test_the_only_spacemouse_among_other_devices_is_found(hidapi):
    hidapi.plug("/dev/hidraw0", ids=(0x046D, 0xC077), usages=(MOUSE,))
    hidapi.plug("/dev/hidraw1")
    assert opened(hidapi) == "/dev/hidraw1"


def test_of_a_wireless_receiver_that_is_listed_as_keyboard_and_mouse_too_the_six_axes_are_opened(hidapi):
    hidapi.plug("/dev/hidraw1", ids=RECEIVER, usages=(KEYBOARD, MOUSE))
    hidapi.plug("/dev/hidraw2", ids=RECEIVER, usages=(SIX_AXES, (1, 5)))
    assert opened(hidapi) == "/dev/hidraw2"


def test_a_hidapi_that_knows_no_usages_lists_the_device_all_the_same(hidapi):
    hidapi.plug("/dev/hidraw1", usages=((0, 0),))
    assert opened(hidapi) == "/dev/hidraw1"


def test_without_a_spacemouse_it_says_so(hidapi):
    hidapi.plug("/dev/hidraw0", ids=(0x046D, 0xC077), usages=(MOUSE,))
    with pytest.raises(ConfigError, match=r"SpaceMouse: none is connected; plug one in"):
        PuckDevice().open()


def test_one_of_two_is_chosen_by_serial_number_by_path_or_by_a_link_to_it(hidapi, tmp_path):
    for name, serial in (("a", "S1"), ("b", "S2")):
        (tmp_path / name).touch()
        hidapi.plug(str(tmp_path / name), serial=serial)
    (tmp_path / "left").symlink_to("b")
    assert opened(hidapi, "S1") == str(tmp_path / "a")
    assert opened(hidapi, str(tmp_path / "b")) == str(tmp_path / "b")
    assert opened(hidapi, str(tmp_path / "left")) == str(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"several are connected; name one .* of .*a \(serial number S1\), .*S2"):
        PuckDevice().open()
    with pytest.raises(ConfigError, match=r"SpaceMouse S3: not connected; there are .*S1"):
        PuckDevice("S3").open()


def test_a_serial_number_that_two_devices_share_chooses_neither(hidapi):
    hidapi.plug("/dev/hidraw1", serial="S1")
    hidapi.plug("/dev/hidraw2", serial="S1")
    with pytest.raises(ConfigError, match="SpaceMouse S1: not the only one of that number; there are /dev/hidraw1"):
        PuckDevice("S1").open()


def test_a_device_without_permission_names_the_udev_rule(hidapi, monkeypatch):
    hidapi.plug("/dev/hidraw1", ids=COMPACT)
    hidapi.locked.add("/dev/hidraw1")
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.F_OK)  # there, but not for this user
    with pytest.raises(ConfigError, match=r"hidraw1: this user may not open it; copy docker/udev/99-spacemouse\.rules"):
        PuckDevice().open()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # gone again
    with pytest.raises(ConfigError, match=r"hidraw1: cannot be opened; plug it in again"):
        PuckDevice().open()


def test_a_missing_system_library_is_named_with_the_debian_package(monkeypatch):
    monkeypatch.setattr("easyhid.easyhid.hidapi", object())  # as cffi gives it when there is none
    with pytest.raises(ConfigError, match=r"hidapi is missing; .* apt-get install libhidapi-hidraw0"):
        connected_hids()


@pytest.mark.parametrize("package", ["pyspacemouse", "easyhid"])
def test_a_missing_package_is_named_with_the_extra(hidapi, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"package '{package}' is missing; .*serl\[spacemouse\]"):
        PuckDevice().open()
