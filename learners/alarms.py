"""What must not reach an arm: a policy learned from rewards out of their range, or from values that ran away."""

import logging
from collections.abc import Iterable, Mapping

from serl_core.types import Transition

logger = logging.getLogger(__name__)

REWARD, VALUE = "reward_range", "q_diverged"
ALLOWED_FACTOR = 10.0  # of the largest value that the rewards allow


class Alarms:
    """Watches the numbers of a run. While one is raised, its learner publishes nothing.

    A value alarm ends when the values are back within the bound. A reward alarm stays until a person has started
    the learner again: what a wrong reward has taught is not unlearned by the next right one.

    Args:
        reward_range: least and greatest reward of a step, as the task declares them.
        gamma: of the discounting; rewards up to r are worth r / (1 - gamma) at most.
    """

    def __init__(self, reward_range: tuple[float, float], gamma: float) -> None:
        self._low, self._high = reward_range
        self._q_limit = ALLOWED_FACTOR * max(abs(self._low), abs(self._high)) / (1.0 - gamma)
        self._raised: dict[str, str] = {}
        self.rewards_out_of_range = 0

    @property
    def raised(self) -> Mapping[str, str]:
        """The reasons of the alarms that are raised, by name; empty when all is well."""
        return self._raised

    def see_rewards(self, transitions: Iterable[Transition]) -> None:
        """Take note of new experience."""
        for transition in transitions:
            reward = float(transition.reward)
            if not self._low <= reward <= self._high:
                self.rewards_out_of_range += 1
                self._raise(
                    REWARD,
                    f"a reward of {reward:g} is outside {self._low:g} to {self._high:g}; mend the reward, and begin a "
                    "new run without these transitions",
                )

    def see_values(self, metrics: Mapping[str, float]) -> None:
        """Take note of the metrics of an update."""
        values = [abs(metrics[name]) for name in ("q_mean", "target_q_mean") if name in metrics]
        if not values:
            return
        if max(values) <= self._q_limit:  # not true of NaN either
            self._raised.pop(VALUE, None)
        else:
            self._raise(
                VALUE,
                f"values of {max(values):g} are above {self._q_limit:g}, {ALLOWED_FACTOR:g} times what the rewards "
                "allow; lower SacConfig.learning_rate, or look for wrong transitions",
            )

    def _raise(self, name: str, reason: str) -> None:
        if name not in self._raised:
            logger.error("nothing is published until this is mended: %s", reason)
            self._raised[name] = reason
