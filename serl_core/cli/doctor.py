"""`serl doctor`: what this machine has, and whether the files of a run are whole."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from serl_core.data.episode_log import load_episode
from serl_core.errors import DataError, RobotError

PARTS = {
    "robot server": ("fastapi", "uvicorn"),
    "simulation": ("mujoco", "cv2"),
    "learner and actor": ("jax", "flax", "optax", "orbax.checkpoint", "matplotlib"),
    "FR3 through libfranka": ("franky",),
    "RealSense": ("pyrealsense2",),
    "SpaceMouse": ("pyspacemouse",),
    "ROS 2": ("rclpy",),
}


@dataclass(frozen=True, kw_only=True)
class DoctorArgs:
    """Check this machine, and a run's files if one is named."""

    run: Path | None = None


def run_doctor(args: DoctorArgs) -> int:
    """Print one line per check; return 1 if a file of the run is damaged."""
    console = Console()
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    )
    realtime = Path("/sys/kernel/realtime")
    has_realtime = realtime.exists() and realtime.read_text().strip() == "1"
    console.print(f"real-time kernel: {'yes' if has_realtime else 'no (a real arm needs one)'}")
    for part, modules in PARTS.items():
        missing = [name for name in modules if not _is_installed(name)]
        console.print(f"{part}: " + ("installed" if not missing else f"not installed ({', '.join(missing)})"))
    if _is_installed("mujoco"):
        console.print(f"simulated cameras: {_drawing()}", soft_wrap=True)
    if args.run is None:
        return 0
    damaged = list(_damaged(args.run))
    for message in damaged:
        console.print(f"[red]damaged[/red] {message}")
    console.print(f"{args.run}: {len(damaged)} damaged files")
    return 1 if damaged else 0


def _drawing() -> str:
    """Return how the simulator draws its cameras' pictures, or what it lacks for it."""
    from robot_servers.sim.gl import gl_backend, import_mujoco, open_context

    try:
        import_mujoco()
        open_context().free()
    except RobotError as error:
        return str(error)
    return f"drawn with {gl_backend()}"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _damaged(run: Path) -> Iterator[str]:
    if not run.is_dir():
        raise DataError(f"{run}: no such folder")
    for path in sorted(run.rglob("*.safetensors")):
        if path.parent.name not in ("demos", "episodes"):
            continue
        try:
            load_episode(path)
        except DataError as error:
            yield str(error)
