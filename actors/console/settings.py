"""What a console looks at: decided at its start."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.console.steering_frames import Mountings
from serl_core.config import TaskConfig


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings:
    """What a console looks at."""

    run: Path
    robot: str | None  # URL of the robot server; None: there is none
    robot_token_file: Path
    actor_id: str | None  # None: the newest
    task: str | None  # its name or file, to record; None while nobody has said
    config: TaskConfig | None  # of the task
    other_runs: Mapping[str, Path]  # to compare with, by name
    clips: Path  # folder of the videos
    limits: Mapping[str, Any]  # of force and torque
    mountings: Mountings  # of the cameras
