"""`learner.json` in a run's folder: how the run was started, so that a resume needs no option and changes nothing."""

from pathlib import Path
from typing import Any

import msgspec

from learners.learner import LearnerConfig
from learners.trainer import TrainerConfig
from serl_core.agents.sac import SacConfig
from serl_core.data.episode_file import episodes_digest, write_atomically
from serl_core.errors import ConfigError, DataError

FILE = "learner.json"
FIXED = (
    "task",
    "seed",
    "utd",
    "critics",
    "batch",
    "temperature_lr",
    "capacity",
)  # with another one, and with other demonstrations, it is another run


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `serl learner` that belong to the run. The schedule may change when it is resumed."""

    task: str
    demos: str | None = None  # folder, relative to the run's when it lies there
    demos_digest: str | None = None
    seed: int = 0
    utd: int = SacConfig.utd_ratio
    critics: int = SacConfig.critics
    batch: int = SacConfig.batch_size
    temperature_lr: float = SacConfig.temperature_learning_rate
    capacity: int = TrainerConfig.online_capacity
    steps: int = LearnerConfig.max_env_steps
    checkpoint_every: int = LearnerConfig.checkpoint_every
    publish_every: int = LearnerConfig.publish_every

    def demos_folder(self, run: Path) -> Path | None:
        """Return where the demonstrations of the run in folder `run` are."""
        return None if self.demos is None else run / self.demos

    def save(self, run: Path) -> None:
        """Write them into the run's folder. Raises DataError when the disk refuses."""
        write_atomically(run / FILE, msgspec.json.format(msgspec.json.encode(self)))


def new_settings(run: Path, task: str, demos: Path | None, **options: float | None) -> RunSettings:
    """Return the settings of a new run in the folder `run`; what is None has its default.

    Raises:
        DataError: there are no demonstrations in `demos`.
    """
    return RunSettings(task=task, **_given(run, demos, options))


def resumed_settings(run: Path, task: str, demos: Path | None, **options: float | None) -> RunSettings:
    """Return the settings that the run in the folder `run` was started with, and the schedule among `options`.

    Raises:
        ConfigError: `task`, `demos` or an option is not what the run was started with.
        DataError: there are no settings, or the demonstrations are not the same any more.
    """
    saved = _load(run / FILE)
    given = _given(run, demos, options)
    for name, value in {"task": task, **given}.items():
        old = getattr(saved, name)
        if name in FIXED and value != old:
            raise ConfigError(f"{name}: the run was started with {old}, got {value}; resume with the same")
    settings = msgspec.structs.replace(saved, **given)
    if settings.demos_digest != saved.demos_digest:
        raise ConfigError(
            f"demos: the run was started with {saved.demos} (digest {saved.demos_digest}), got {demos} "
            f"(digest {settings.demos_digest}); resume with the same"
        )
    folder = settings.demos_folder(run)
    if folder is not None and (found := episodes_digest(folder)) != saved.demos_digest:
        raise DataError(
            f"the demonstrations in {folder} are not those that the run was started with (digest {found}, "
            f"was {saved.demos_digest}); put them back as they were, or start a new run"
        )
    return settings


def _given(run: Path, demos: Path | None, options: dict[str, float | None]) -> dict[str, Any]:
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if demos is not None:
        folder, base = demos.resolve(), run.resolve()
        given["demos"] = str(folder.relative_to(base) if folder.is_relative_to(base) else folder)
        given["demos_digest"] = episodes_digest(demos)
    return given


def _load(path: Path) -> RunSettings:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunSettings)
    except FileNotFoundError:
        raise DataError(f"no {path}: how the run was started is not known; put it back, or start a new run") from None
    except msgspec.MsgspecError as error:
        raise DataError(f"{path} is corrupt: {error}; put it back, or start a new run") from None
