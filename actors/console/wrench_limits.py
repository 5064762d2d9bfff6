"""At which force and torque the arm stops itself: what the bars on the page are drawn against."""

from pathlib import Path
from typing import Any

import msgspec

from serl_core.errors import ConfigError
from serl_core.robots.messages import Vector6

# franka_ros' defaults, which are the robot server's too: N along, then Nm about the axes at the tool.
DEFAULT: Vector6 = (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)


class _LimitsFile(msgspec.Struct, frozen=True):
    collision_force_n: Vector6 = DEFAULT  # the robot server's name for all six


def load_wrench_limits(path: Path | None) -> dict[str, Any]:
    """Return the least of the three limits each, from a copy of the robot server's limits file; or its defaults.

    Raises:
        ConfigError: the file is missing, or no such file.
    """
    try:
        limits = _LimitsFile() if path is None else msgspec.json.decode(path.read_bytes(), type=_LimitsFile)
    except OSError as error:
        raise ConfigError(f"limits file {path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"limits file {path}: {error}; give the robot server's own limits file") from None
    force, torque = limits.collision_force_n[:3], limits.collision_force_n[3:]
    return {"force_n": min(force), "torque_nm": min(torque), "is_default": path is None}
