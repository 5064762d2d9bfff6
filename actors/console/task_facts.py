"""What the console tells of the task: from the run's task.json, or from the task that was named."""

from pathlib import Path
from typing import Any

import msgspec

from serl_core.config import TaskConfig
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError
from serl_core.image_config import CameraSource


def load_config(run: Path, task: str | None) -> TaskConfig | None:
    """Return the config of the task that is named, else of the run; None while neither says.

    Raises:
        ConfigError: there is no such task, or the run's task.json is not one of this version.
    """
    if task is not None:
        return load_task(task).config
    path = run / "task.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=TaskConfig)
    except OSError:
        return None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is no task of this version ({error}); name the task with --task") from None


def task_facts(config: TaskConfig | None) -> dict[str, Any] | None:
    """Return what the page shows of the task; None without one."""
    if config is None:
        return None
    return {
        "name": config.name,
        "control_hz": config.control_hz,
        "time_limit_steps": config.time_limit_steps,
        "target_pose": config.target_pose,
        "has_gripper": config.action.has_gripper,
        "reward": config.reward.kind.value,
    }


def box_facts(config: TaskConfig | None) -> dict[str, Any] | None:
    """Return the box in which the tool may be sent, in m; None without a task."""
    return None if config is None else {"low_m": config.box.low_m, "high_m": config.box.high_m}


def robot_camera_sizes(config: TaskConfig | None) -> dict[str, tuple[int, int]]:
    """Return height and width of the policy's own pictures by the camera's name at the robot server."""
    cameras = config.observation.cameras if config is not None else ()
    return {c.device or c.name: (c.height, c.width) for c in cameras if c.source is CameraSource.ROBOT}


def actor_cameras(config: TaskConfig | None) -> tuple[str, ...]:
    """Return the names of the cameras that are plugged in at the actor."""
    cameras = config.observation.cameras if config is not None else ()
    return tuple(c.name for c in cameras if c.source is not CameraSource.ROBOT)
