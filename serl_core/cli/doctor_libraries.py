"""Which libraries of the parts are installed here, and whether those with native code load."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from serl_core.cli.doctor_checks import Check, Part, Parts, Verdict

LOAD_S = 30.0  # a library that takes longer hangs


class Library(NamedTuple):
    """Modules that come together, and what they are for."""

    what: str
    modules: tuple[str, ...]
    extra: str  # of our distribution; empty for what no package index has
    needed_by: frozenset[Part] = frozenset()
    probe: str = ""  # Python that fails where the library is installed and does not work
    remedy: str = ""  # for that


DRIVERS = (
    Library("FR3 through libfranka", ("franky",), "server,franka", probe="import franky"),
    Library("Panda through panda-python", ("panda_py",), "server,panda", probe="import panda_py"),
    Library("ROS 2", ("rclpy",), "", probe="import rclpy"),
)
LIBRARIES = (
    Library("robot server", ("fastapi", "uvicorn"), "server", frozenset({Part.ROBOT, Part.SIM})),
    Library("simulation", ("mujoco", "cv2"), "server,sim", frozenset({Part.SIM})),
    *DRIVERS,
    Library("Robotiq gripper", ("pymodbus",), "robotiq"),
    Library(
        "learner and actor",
        ("jax", "flax", "optax", "matplotlib"),
        "learner",
        frozenset({Part.LEARNER, Part.ACTOR}),
    ),
    Library("camera pictures", ("cv2", "av"), "vision"),
    Library(
        "RealSense",
        ("pyrealsense2",),
        "realsense",
        probe="from actors.cameras.librealsense import librealsense; librealsense()",
        remedy="pip install 'serl[realsense]', or apt install libusb-1.0-0 libudev1",
    ),
    Library(
        "SpaceMouse",
        ("pyspacemouse",),
        "spacemouse",
        probe="import pyspacemouse; pyspacemouse.get_connected_devices()",
        remedy="apt install libhidapi-hidraw0",
    ),
)


def is_installed(module: str) -> bool:
    """Say whether a module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def failure_of(probe: str) -> str:
    """Return why a piece of Python fails, empty if it does not. In a process of its own: native code may end it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, timeout=LOAD_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it does not answer within {LOAD_S:g} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"exit status {done.returncode}"


def installed_parts(installed: Callable[[str], bool] = is_installed) -> tuple[Part, ...]:
    """Return the parts whose libraries are here: what `serl doctor` checks when it is not told."""
    parts = [
        part
        for part in Part
        if all(installed(name) for library in LIBRARIES if part in library.needed_by for name in library.modules)
    ]
    if not any(installed(name) for driver in DRIVERS for name in driver.modules):
        parts = [part for part in parts if part is not Part.ROBOT]
    return tuple(parts)


def check_libraries(
    parts: Parts,
    *,
    installed: Callable[[str], bool] = is_installed,
    failure: Callable[[str], str] = failure_of,
) -> list[Check]:
    """Return a line per library. What no part here needs is never red."""
    checks = [_check(library, parts, installed, failure) for library in LIBRARIES]
    has_driver = any(all(map(installed, driver.modules)) for driver in DRIVERS)
    if Part.ROBOT in parts and not has_driver:
        remedy = "pip install 'serl[server,franka]' for an FR3, 'serl[server,panda]' for a Panda, or source ROS 2"
        checks.append(Check("driver of a real arm", Verdict.RED, "none is installed", remedy))
    return checks


def _check(library: Library, parts: Parts, installed: Callable[[str], bool], failure: Callable[[str], str]) -> Check:
    missing = [name for name in library.modules if not installed(name)]
    if missing:
        needing = [part.value for part in Part if part in parts and part in library.needed_by]
        found = f"not installed ({', '.join(missing)})"
        if not needing:
            return Check(library.what, Verdict.OK, found)
        return Check(library.what, Verdict.RED, f"{found}: {', '.join(needing)} needs it", _install(library))
    why = failure(library.probe) if library.probe else ""
    if why:
        verdict = Verdict.RED if library.needed_by.intersection(parts) or _drives(library, parts) else Verdict.WARN
        remedy = library.remedy or f"{_install(library)}, in a new environment if that does not help"
        return Check(library.what, verdict, f"installed and does not load: {why}", remedy)
    return Check(library.what, Verdict.OK, "installed")


def _drives(library: Library, parts: Parts) -> bool:
    return library in DRIVERS and Part.ROBOT in parts


def _install(library: Library) -> str:
    if not library.extra:
        return "source the setup file of your ROS 2 installation"
    return f"pip install 'serl[{library.extra}]'"
