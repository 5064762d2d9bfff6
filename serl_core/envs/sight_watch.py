"""Whether what the cameras show can be believed: pictures of the same moment as the arm's state, and a finite judge."""

import logging
import math

from serl_core.envs.vision import Sight

logger = logging.getLogger(__name__)

APART_S = 0.1  # of a picture and the state that it stands beside in an observation
MOST_APART = 0.05  # of an episode's steps
LEAST_STEPS = 20  # before that is a fault: one step alone is none


class SightWatch:
    """Counts over all episodes, and judges each one. It never changes what was seen.

    Attributes:
        apart: steps whose pictures and state were more than 0.1 s apart.
        not_finite: judgements of the reward classifier that were no number; they count as 0.
    """

    def __init__(self) -> None:
        self.apart = self.not_finite = 0
        self._apart_in_episode = self._steps = 0
        self._has_told = False

    def begin_episode(self) -> None:
        """Forget the last one."""
        self._apart_in_episode = self._steps = 0
        self._has_told = False

    def is_apart(self, sight: Sight, state_s: float) -> bool:
        """Count a step; return whether its observation is of two moments.

        Args:
            state_s: when the state came, on the clock of `Sight.captured_s`.
        """
        self._steps += 1
        is_apart = sight.captured_s is not None and abs(state_s - sight.captured_s) > APART_S
        if is_apart:
            self.apart += 1
            self._apart_in_episode += 1
        return is_apart

    @property
    def is_fault(self) -> bool:
        """Whether so many steps of this episode were of two moments that nothing should be learned from the rest."""
        return self._apart_in_episode > MOST_APART * max(self._steps, LEAST_STEPS)

    def probability(self, sight: Sight) -> float | None:
        """Return the classifier's judgement, 0 for one that is no number; None without one."""
        probability = sight.success_probability
        if probability is None or math.isfinite(probability):
            return probability
        self.not_finite += 1
        if not self._has_told:
            self._has_told = True
            logger.error("the reward classifier gives %s: it counts as no success; train it anew", probability)
        return 0.0
