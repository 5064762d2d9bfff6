"""How many updates the environment steps so far have paid for: never one more."""

from dataclasses import dataclass

from serl_core.errors import ConfigError


@dataclass(kw_only=True)
class Pacing:
    """Counts environment steps against the steps whose updates are done.

    The first `training_starts` steps owe nothing; each one after them owes one call to `Agent.update`.
    """

    training_starts: int
    env_steps: int = 0
    trained_env_steps: int = 0

    def __post_init__(self) -> None:
        if self.training_starts < 1:
            raise ConfigError(f"training_starts: must be at least 1 step, got {self.training_starts}")

    @property
    def debt(self) -> int:
        """Environment steps whose updates are still to be done."""
        return self.env_steps - self.trained_env_steps

    def inserted(self, steps: int) -> None:
        """Take note of new environment steps."""
        self.env_steps += steps
        self.trained_env_steps = max(self.trained_env_steps, min(self.env_steps, self.training_starts))

    def updated(self) -> None:
        """Take note that the updates of one environment step are done."""
        assert self.debt > 0, "an update that no environment step has paid for"
        self.trained_env_steps += 1
