"""A task: its config, and the code it may bring along."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from serl_core.config import TaskConfig
from serl_core.errors import ConfigError
from serl_core.robots.messages import RobotState
from serl_core.types import Observation

Expert = Callable[[RobotState], NDArray[np.float32]]
"""What a patient human would do now: the state -> an action in the tool frame, in [-1, 1]."""

IsSuccess = Callable[[Observation, RobotState], bool]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a file in `examples/` calls `TASK`."""

    config: TaskConfig
    expert: Expert | None = None  # stands in for a human in simulation
    is_success: IsSuccess | None = None  # instead of the config's RewardKind


def load_task(name: str) -> Task:
    """Return the `TASK` of a task file (a path ending in .py) or of `examples.<name>`.

    Raises:
        ConfigError: there is no such file, or it has no `TASK`.
    """
    task = getattr(_load_module(name), "TASK", None)
    if not isinstance(task, Task):
        raise ConfigError(f"task {name!r}: its file must define TASK = Task(config=...), see examples/ram_insertion.py")
    return task


def _load_module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(f"examples.{name}")
        except ModuleNotFoundError as error:
            if error.name not in ("examples", f"examples.{name}"):
                raise
            raise ConfigError(
                f"task {name!r}: no such task in examples/; give a name from there or a .py path"
            ) from None
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"task {name!r}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
