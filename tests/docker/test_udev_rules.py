"""The udev rules, read the way udev reads them: which devices they match, and what these get."""

import fnmatch
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from serl_core.cli.doctor_devices import REALSENSE, SPACE_MOUSE, is_space_mouse

ROOT = Path(__file__).parents[2]
TOKEN = re.compile(r'([A-Z]+)(?:\{([^}]+)\})?(==|!=|\+=|:=|=)"([^"]*)"')
MATCHES = {"KERNEL", "SUBSYSTEM", "KERNELS", "ATTR", "ATTRS", "ENV"}
GIVES = [("MODE", "=", "0660"), ("GROUP", "=", "plugdev"), ("TAG", "+=", "uaccess"), ("RUN", "+=", "uaccess")]

PLUGGED = {"hidraw": {"KERNEL": "hidraw3", "SUBSYSTEM": "hidraw"}, "usb": {"SUBSYSTEM": "usb"}}


class Part(NamedTuple):
    key: str
    attribute: str
    operator: str
    value: str


def rules(name: str) -> list[list[Part]]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    found = []
    for line in lines:
        parts = [Part(*match.groups("")) for match in TOKEN.finditer(line)]
        assert TOKEN.sub("", line).replace(",", "").strip() == "", f"{line}: not of udev's form"
        found.append(parts)
    return found


def is_matched(rule: list[Part], device: dict[str, str]) -> bool:
    """Whether a device, by the names that a rule asks for, passes all of its conditions."""
    conditions = [part for part in rule if part.operator in ("==", "!=")]
    assert all(part.key in MATCHES for part in conditions)
    for part in conditions:
        name = f"{part.key}{{{part.attribute}}}" if part.attribute else part.key
        value = device.get(name)
        hit = value is not None and any(fnmatch.fnmatchcase(value, pattern) for pattern in part.value.split("|"))
        if hit == (part.operator == "!="):
            return False
    return True


def mouse(vendor: str, product: str) -> dict[str, str]:
    return {**PLUGGED["hidraw"], "ATTRS{idVendor}": vendor, "ATTRS{idProduct}": product}


def camera(vendor: str, product: str) -> dict[str, str]:
    return {
        "SUBSYSTEM": "usb",
        "ENV{DEVTYPE}": "usb_device",
        "ATTR{idVendor}": vendor,
        "ATTR{idProduct}": product,
    }


def matched(name: str, device: dict[str, str]) -> bool:
    return any(is_matched(rule, device) for rule in rules(name))


@pytest.mark.parametrize("name", [SPACE_MOUSE, REALSENSE])
def test_every_rule_gives_the_person_at_the_machine_and_plugdev_access_and_no_one_else(name):
    for rule in rules(name):
        given = [(part.key, part.operator, part.value) for part in rule if part.operator not in ("==", "!=")]
        assert given == GIVES
        assert [part.attribute for part in rule if part.key == "RUN"] == ["builtin"]


@pytest.mark.parametrize(
    ("vendor", "product"),
    [("256f", "c62e"), ("256f", "c635"), ("256f", "c652"), ("046d", "c603"), ("046d", "c626"), ("046d", "c62b")],
)
def test_a_space_mouse_is_matched(vendor, product):
    assert matched(SPACE_MOUSE, mouse(vendor, product))
    assert is_space_mouse(f"0003:0000{vendor}:0000{product}".upper())


@pytest.mark.parametrize(
    ("vendor", "product"), [("046d", "c52b"), ("046d", "c31c"), ("046d", "c534"), ("1234", "c62b")]
)
def test_a_keyboard_or_another_mouse_is_not(vendor, product):
    """Who may read a keyboard's hidraw node reads every password."""
    assert not matched(SPACE_MOUSE, mouse(vendor, product))
    assert not is_space_mouse(f"0003:0000{vendor}:0000{product}".upper())


def test_a_space_mouse_over_bluetooth_is_matched():
    device = {**PLUGGED["hidraw"], "KERNELS": "0005:256F:C63A.0004"}
    assert matched(SPACE_MOUSE, device)
    assert not matched(SPACE_MOUSE, {**device, "KERNELS": "0005:046D:B342.0004"})


@pytest.mark.parametrize("product", ["0ad3", "0b07", "0b3a", "0b5c"])
def test_a_realsense_camera_is_matched(product):
    assert matched(REALSENSE, camera("8086", product))


@pytest.mark.parametrize(("vendor", "product"), [("8086", "1234"), ("8087", "0aaa"), ("046d", "0b07")])
def test_another_usb_device_is_not(vendor, product):
    assert not matched(REALSENSE, camera(vendor, product))


def test_the_products_of_the_rule_are_those_that_the_doctor_takes_for_3d_mice():
    for product in range(0xC500, 0xC700):
        name = f"{product:04x}"
        assert matched(SPACE_MOUSE, mouse("046d", name)) == is_space_mouse(f"0003:0000046D:0000{name.upper()}")
