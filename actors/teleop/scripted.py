"""A scripted stand-in for the human: demonstrates with a settable skill, and steps in when the policy is stuck."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actors.teleop.interface import TeleopCommand
from serl_core.envs.task import Task
from serl_core.errors import ConfigError
from serl_core.robots.messages import RobotState


@dataclass(frozen=True, kw_only=True)
class ExpertSkill:
    """How well the scripted human does."""

    speed: float = 0.7  # its action as a fraction of the expert's
    noise: float = 0.06  # standard deviation added to each number of the action

    def __post_init__(self) -> None:
        if not 0.0 < self.speed <= 1.0:
            raise ConfigError(f"ExpertSkill.speed: must be above 0 and at most 1, got {self.speed}")
        if not 0.0 <= self.noise <= 1.0:
            raise ConfigError(f"ExpertSkill.noise: must be 0 to 1, got {self.noise}")


@dataclass(frozen=True, kw_only=True)
class StuckDetector:
    """When the human steps in, and for how long."""

    progress_m: float = 0.002  # nearer to the target than ever before in the episode by this much
    patience_steps: int = 15  # without progress, then the human takes over
    help_steps: int = 8  # then hands back


class EpisodeView(Protocol):
    """What a human sees of the episode. `serl_core.envs.arm_env.ArmEnv` is one."""

    @property
    def state(self) -> RobotState:
        """The arm's last state."""

    @property
    def steps(self) -> int:
        """Taken in this episode; 0 right after the reset."""


class ScriptedTeleop:
    """The task's expert as a human at the device. It makes up its mind once a step, however often it is read.

    Args:
        is_demonstrating: engaged all the time, to record demonstrations; else only when stuck.
        seed: of the noise.

    Raises:
        ConfigError: the task has no expert.
    """

    def __init__(
        self,
        task: Task,
        view: EpisodeView,
        *,
        skill: ExpertSkill,
        seed: int,
        is_demonstrating: bool = False,
        detector: StuckDetector | None = None,
    ) -> None:
        if task.expert is None:
            raise ConfigError(f"task {task.config.name!r}: has no scripted expert; give it Task(expert=...)")
        self._expert = task.expert
        self._view = view
        self._target_m = np.array(task.config.target_pose[:3])
        self._skill = skill
        self._rng = np.random.default_rng(seed)
        self._is_demonstrating = is_demonstrating
        self._detector = detector or StuckDetector()
        self._idle = np.zeros(task.config.action.spec.size, np.float32)
        self._seen: RobotState | None = None
        self._command = TeleopCommand(self._idle, is_engaged=False, hands_back=True)
        self._begin_episode()

    def open(self) -> None:
        """There is no device to open."""

    def close(self) -> None:
        """There is no device to close."""

    def read(self) -> TeleopCommand:
        """Return this step's command."""
        if self._view.state is not self._seen:
            self._seen, self._command = self._view.state, self._decide()
        return self._command

    def _decide(self) -> TeleopCommand:
        if self._is_demonstrating:
            return TeleopCommand(self._act(), is_engaged=True)
        if self._view.steps == 0:
            self._begin_episode()
        self._watch()
        if self._help_left > 0:
            self._help_left -= 1
            return TeleopCommand(self._act(), is_engaged=True)
        return TeleopCommand(self._idle, is_engaged=False, hands_back=True)

    def _begin_episode(self) -> None:
        self._nearest_m = np.inf
        self._steps_without_progress = 0
        self._help_left = 0

    def _watch(self) -> None:
        apart_m = float(np.linalg.norm(np.array(self._view.state.tcp_pose[:3]) - self._target_m))
        if apart_m < self._nearest_m - self._detector.progress_m:
            self._nearest_m = apart_m
            self._steps_without_progress = 0
        elif self._help_left == 0:
            self._steps_without_progress += 1
            if self._steps_without_progress > self._detector.patience_steps:
                self._help_left = self._detector.help_steps
                self._steps_without_progress = 0

    def _act(self) -> NDArray[np.float32]:
        wish = self._expert(self._view.state)
        noise = self._skill.noise * self._rng.standard_normal(wish.size)
        return np.clip(self._skill.speed * wish + noise, -1.0, 1.0).astype(np.float32)
