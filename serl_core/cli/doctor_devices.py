"""The devices that `serl doctor` looks for: cameras, the SpaceMouse, the arm, and the robot server."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from serl_core.cli.doctor_checks import SYS, Check, Part, Parts, Verdict
from serl_core.errors import RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode

DEV = Path("/dev")
FRANKA_PORT = 1337  # of the Franka Control Interface, where libfranka connects
REACH_S = 1.0
ROUND_TRIP_S = 1e-3  # round trip and control loop together must fit into it
SPACE_MOUSE = "docker/udev/99-spacemouse.rules"
REALSENSE = "docker/udev/99-realsense.rules"
INSTALL_RULE = (
    "cp {rule} /etc/udev/rules.d/ && udevadm control --reload && udevadm trigger, as root, then plug it in anew"
)


def can_open(node: Path) -> bool:
    """Say whether this user may read and write a device."""
    return os.access(node, os.R_OK | os.W_OK)


def check_video(parts: Parts, *, sysfs: Path = SYS, allowed: Callable[[Path], bool] = can_open) -> list[Check]:
    """Return a line per UVC camera; one that says there is none, for an actor."""
    if Part.ACTOR not in parts:
        return []
    checks = []
    for folder in sorted(sysfs.glob("class/video4linux/video*")):
        if _text(folder / "index") not in ("", "0"):
            continue  # the camera's second node, for metadata
        node = DEV / folder.name
        if allowed(node):
            checks.append(Check(f"camera {node}", Verdict.OK, _text(folder / "name")))
        else:
            remedy = f"usermod -aG video {os.environ.get('USER', 'USER')}, as root, then log in again"
            checks.append(Check(f"camera {node}", Verdict.RED, f"{_text(folder / 'name')}: no permission", remedy))
    none = Check("UVC cameras", Verdict.WARN, "none", "plug one in, or use RealSense or the simulator's cameras")
    return checks or [none]


def check_realsense(parts: Parts, *, sysfs: Path = SYS, allowed: Callable[[Path], bool] = can_open) -> list[Check]:
    """Return a line per RealSense camera on USB. Its own library says its serial number."""
    if Part.ACTOR not in parts:
        return []
    checks = []
    for folder in sorted(sysfs.glob("bus/usb/devices/*")):
        if _text(folder / "idVendor") != "8086" or not _text(folder / "idProduct").startswith(("0a", "0b")):
            continue
        bus, device = int(_text(folder / "busnum") or 0), int(_text(folder / "devnum") or 0)
        node = DEV / "bus" / "usb" / f"{bus:03}" / f"{device:03}"
        what, name = f"RealSense on {folder.name}", _text(folder / "product") or "camera"
        speed = float(_text(folder / "speed") or 0)
        if not allowed(node):
            checks.append(Check(what, Verdict.RED, f"{name}: no permission", INSTALL_RULE.format(rule=REALSENSE)))
        elif speed < 5000:  # Mbit/s
            remedy = "use a USB 3 port and cable: at USB 2 it has few resolutions and rates"
            checks.append(Check(what, Verdict.WARN, f"{name} at {speed:g} Mbit/s", remedy))
        else:
            checks.append(Check(what, Verdict.OK, f"{name} at {speed:g} Mbit/s"))
    return checks


def check_space_mouse(parts: Parts, *, sysfs: Path = SYS, allowed: Callable[[Path], bool] = can_open) -> list[Check]:
    """Return a line per 3D mouse; one that says there is none, for an actor."""
    if Part.ACTOR not in parts:
        return []
    checks = []
    for folder in sorted(sysfs.glob("class/hidraw/hidraw*")):
        facts = dict(line.partition("=")[::2] for line in _text(folder / "device" / "uevent").splitlines())
        if not is_space_mouse(facts.get("HID_ID", "")):
            continue
        node = DEV / folder.name
        what, name = f"SpaceMouse {node}", facts.get("HID_NAME", "")
        if allowed(node):
            checks.append(Check(what, Verdict.OK, name))
        else:
            checks.append(Check(what, Verdict.RED, f"{name}: no permission", INSTALL_RULE.format(rule=SPACE_MOUSE)))
    none = Check("SpaceMouse", Verdict.WARN, "none", "plug one in; without it nobody can correct the policy")
    return checks or [none]


def is_space_mouse(hid_id: str) -> bool:
    """Say whether a HID_ID (bus, vendor and product in hexadecimal) is a 3D mouse's.

    3Dconnexion's own vendor number is 256f; its older devices have Logitech's, with products from c603 on. Most of
    Logitech's other devices are keyboards and mice.
    """
    try:
        _, vendor, product = (int(number, 16) for number in hid_id.split(":"))
    except ValueError:
        return False
    return vendor == 0x256F or (vendor == 0x046D and 0xC603 <= product <= 0xC62B)


def check_arm(robot_ip: str, *, port: int = FRANKA_PORT, timeout_s: float = REACH_S) -> Check:
    """Say whether something listens where an arm takes its controller. It is left at once: nothing is sent."""
    what = f"arm at {robot_ip}"
    begun_s = time.monotonic()
    try:
        socket.create_connection((robot_ip, port), timeout_s).close()
    except OSError as error:
        remedy = (
            f"ping {robot_ip}; the arm must be on, its network cable in this machine, this machine's address in the "
            "arm's subnet, and FCI activated in Desk with the joints unlocked"
        )
        return Check(what, Verdict.RED, f"no answer at port {port} ({error})", remedy)
    took_s = time.monotonic() - begun_s
    found = f"answers at port {port} in {1e3 * took_s:.2f} ms"
    if took_s <= ROUND_TRIP_S:
        return Check(what, Verdict.OK, found)
    remedy = "a cable without a switch or wireless bridge between; try again when the machine has nothing else to do"
    return Check(what, Verdict.WARN, f"{found}, and the loop has 1 ms in all", remedy)


def check_robot_server(url: str, token_file: Path | None = None) -> Check:
    """Say what stands behind a robot server, and whether it would take commands."""
    what = f"robot server {url}"
    robot = HttpRobot(url, owner="serl doctor", token_file=token_file, timeout_s=2.0)
    try:
        health = robot.health()
        state = robot.state()
    except RobotError as error:
        why, _, remedy = str(error).partition("; ")
        return Check(what, Verdict.RED, why, remedy or "start one with `serl robot-server`")
    finally:
        robot.close()
    found = f"backend {health.backend}, API {health.api_version}, mode {state.mode.value}"
    if state.is_stale:
        return Check(what, Verdict.RED, f"{found}, its state is old", "look at the server's log: its driver is silent")
    if state.mode in (Mode.FAULT, Mode.STOPPED):
        command = "recover" if state.mode is Mode.FAULT else "resume"
        remedy = f"look at the arm, then `serl robot {command} --robot {url}`"
        return Check(what, Verdict.RED, f"{found}, latched by {state.fault!r}", remedy)
    return Check(what, Verdict.OK, found)


def _text(path: Path) -> str:
    """Return what a file of the system says; empty where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
