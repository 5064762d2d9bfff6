import ctypes
import importlib
import sys
from types import SimpleNamespace

import pytest

from actors.cameras import librealsense as module
from actors.cameras.librealsense import find, forbidden, librealsense
from serl_core.errors import ConfigError
from tests.actors.cameras.realsense_recording import SoftCamera


def plug(tmp_path, *, product="Intel(R) RealSense(TM) Depth Camera 435i", is_usable=True):
    """Return folders like /sys/bus/usb/devices and /dev/bus/usb with one device."""
    usb, nodes = tmp_path / "sys", tmp_path / "dev"
    for name, text in (("product", product), ("busnum", "2"), ("devnum", "14")):
        (usb / "2-1").mkdir(parents=True, exist_ok=True)
        (usb / "2-1" / name).write_text(f"{text}\n")
    (usb / "usb2").mkdir()  # a hub without a name
    if is_usable:
        (nodes / "002").mkdir(parents=True)
        (nodes / "002" / "014").touch()
    return {"usb": usb, "nodes": nodes}


def importer(monkeypatch, **refusals):
    """Let the import of some packages fail as often as there are errors for it."""
    real = importlib.import_module

    def load(name):
        if refusals.get(name):
            raise refusals[name].pop(0)
        return real(name)

    monkeypatch.setattr(module, "importlib", SimpleNamespace(import_module=load))


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(ConfigError, match=r"librealsense, which is not installed.*serl\[realsense\]"):
        librealsense()


def test_without_the_systems_usb_library_the_one_that_was_installed_along_is_loaded(monkeypatch):
    """The wheel of pyrealsense2 leaves libusb to the system, and many have none."""
    loaded, load = [], ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: loaded.append((path, mode)) or load(path, mode))
    importer(monkeypatch, pyrealsense2=[ImportError("libusb-1.0.so.0: cannot open shared object file")])
    assert librealsense().pipeline
    ((path, mode),) = loaded
    assert "libusb-1.0" in path
    assert mode == ctypes.RTLD_GLOBAL


def test_without_any_usb_library_the_error_says_what_to_install(monkeypatch):
    missing = [ImportError("libusb-1.0.so.0: cannot open shared object file")]
    importer(monkeypatch, pyrealsense2=missing, libusb_package=[ModuleNotFoundError("libusb_package")])
    with pytest.raises(ConfigError, match=r"libusb-1\.0\.so\.0.*serl\[realsense\].*apt install libusb-1\.0-0"):
        librealsense()


def test_a_camera_is_found_by_its_serial_number():
    device = SoftCamera("7").device
    assert find("7", lambda: {"6": None, "7": device}) is device


def test_where_nothing_is_plugged_in_the_error_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no RealSense camera is there at all; plug it in"):
        find("7", dict, usb=tmp_path, nodes=tmp_path)


def test_of_this_machine_a_number_that_cannot_be_is_refused():
    with pytest.raises(
        ConfigError, match=r"no RealSense camera is there|no camera of this serial number|may not write"
    ):
        find("no such number")


@pytest.mark.parametrize("refusal", [None, RuntimeError("failed to open usb interface")])
def test_a_camera_that_this_user_may_not_use_names_the_udev_rules(tmp_path, refusal):
    def devices():
        if refusal is not None:
            raise refusal
        return {}

    with pytest.raises(
        ConfigError, match=r"may not write to .*002/014.*docker/udev/99-realsense\.rules.*udevadm"
    ) as told:
        find("7", devices, **plug(tmp_path, is_usable=False))
    assert (refusal is not None) == ("failed to open usb interface" in str(told.value))


def test_what_librealsense_says_is_part_of_the_error(tmp_path):
    def devices():
        raise RuntimeError("xioctl failed")

    with pytest.raises(ConfigError, match=r"no RealSense camera is there at all \(librealsense: xioctl failed\)"):
        find("7", devices, **plug(tmp_path))


@pytest.mark.parametrize(
    ("plugged", "expected"),
    [({}, 0), ({"is_usable": False}, 1), ({"is_usable": False, "product": "USB Keyboard"}, 0)],
)
def test_only_a_realsense_camera_that_cannot_be_used_is_forbidden(tmp_path, plugged, expected):
    assert len(forbidden(**plug(tmp_path, **plugged))) == expected


def test_a_node_without_the_right_to_write_is_forbidden(tmp_path, monkeypatch):
    folders = plug(tmp_path)
    monkeypatch.setattr(module.os, "access", lambda path, how: how == module.os.R_OK)  # root may do all
    assert [str(path.relative_to(folders["nodes"])) for path in forbidden(**folders)] == ["002/014"]
