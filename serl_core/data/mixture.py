"""Batches that are half demonstrations and half online experience (RLPD, Ball et al. 2023, section 4.1)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import ConfigError
from serl_core.types import Observation, Transition


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
        drawn = [buffer.at(view.draw(rng, places.shape)) for buffer, view, places in sources if len(places)]
        order = np.empty(utd * batch, np.int64)
        order[np.concatenate([places for _, _, places in sources])] = np.arange(utd * batch)
        return _join(drawn, order, (utd, batch))


def _join(parts: list[Transition], order: NDArray[np.int64], shape: tuple[int, ...]) -> Transition:
    """Return the rows of all `parts`, [n ...], in `order`, with leading dims `shape`."""

    def join(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        joined = np.concatenate(arrays).take(order, axis=0)
        return joined.reshape(*shape, *joined.shape[1:])

    def join_observations(observations: list[Observation]) -> Observation:
        return Observation(
            proprio=join([o.proprio for o in observations]),
            images={name: join([o.images[name] for o in observations]) for name in observations[0].images},
            features={name: join([o.features[name] for o in observations]) for name in observations[0].features},
        )

    return Transition(
        observation=join_observations([part.observation for part in parts]),
        action=join([part.action for part in parts]),
        reward=join([np.asarray(part.reward) for part in parts]),
        discount=join([np.asarray(part.discount) for part in parts]),
        next_observation=join_observations([part.next_observation for part in parts]),
        is_intervention=join([np.asarray(part.is_intervention) for part in parts]),
        end=join([np.asarray(part.end) for part in parts]),
    )
