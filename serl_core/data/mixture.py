"""Batches that are half demonstrations and half online experience (RLPD, Ball et al. 2023, section 4.1)."""

import numpy as np

from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import ConfigError
from serl_core.types import Transition


class Mixture:
    """Draws from two buffers.

    The demonstration part of each batch is uniform over `demonstrations` and the interventions among
    `online` together, the rest uniform over all of `online`. While one side is empty the other gives all.

    Args:
        demonstrations: the recorded demonstrations.
        online: everything since.
        demo_fraction: of each batch, rounded to whole transitions.
    """

    def __init__(self, demonstrations: ReplayBuffer, online: ReplayBuffer, demo_fraction: float = 0.5) -> None:
        if not 0.0 <= demo_fraction <= 1.0:
            raise ConfigError(f"demo_fraction: must be 0 to 1, got {demo_fraction}")
        self._demonstrations = demonstrations
        self._online = online
        self._demo_fraction = demo_fraction

    def sample(self, rng: np.random.Generator, utd: int, batch: int) -> Transition:
        """Return `utd` batches of `batch` transitions, leading dims [utd, batch], float32.

        Raises:
            DataError: both sides are empty.
        """
        recorded, corrected = len(self._demonstrations), len(self._online.interventions)
        if not recorded + corrected:
            return self._online.sample(rng, (utd, batch))
        demo_part = round(batch * self._demo_fraction) if len(self._online) else batch
        is_demonstration = np.zeros((utd, batch), np.bool_)
        is_demonstration[:, :demo_part] = rng.integers(recorded + corrected, size=(utd, demo_part)) < recorded
        is_intervention = ~is_demonstration
        is_intervention[:, demo_part:] = False
        sources = (
            (self._demonstrations, self._demonstrations, np.flatnonzero(is_demonstration)),
            (self._online, self._online.interventions, np.flatnonzero(is_intervention)),
            (self._online, self._online, np.flatnonzero(~is_demonstration & ~is_intervention)),
        )
        drawn = self._online.empty_batch((utd, batch))
        for buffer, view, rows in sources:
            if len(rows):
                buffer.copy(view.draw(rng, rows.shape), drawn, rows, rng)
        return drawn
