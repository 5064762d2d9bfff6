"""The rings that hold the frames of observations, and how rows of a ring get into a batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_core.types import EnvSpec, Observation

Slots = NDArray[np.int64]


class Frames:
    """The frames of observations, by slot."""

    def __init__(self, spec: EnvSpec, capacity: int) -> None:
        self.proprio = np.zeros((capacity, spec.proprio_size), np.float32)
        self.images = {name: np.zeros((capacity, *shape), np.uint8) for name, shape in spec.image_shapes.items()}
        self.features = {name: np.zeros((capacity, *shape), np.float16) for name, shape in stored_shapes(spec).items()}
        self._spec = spec

    def put(self, slot: int, observation: Observation) -> None:
        """Keep an observation in the place of what was in `slot`."""
        self.proprio[slot] = observation.proprio
        for name, image in observation.images.items():
            self.images[name][slot] = image
        for name, feature in observation.features.items():
            self.features[name][slot] = feature

    def empty(self, shape: tuple[int, ...]) -> Observation:
        """Return fresh arrays for observations with leading dims `shape`, one copy of the features each."""
        spec = self._spec
        return Observation(
            proprio=np.empty((*shape, spec.proprio_size), np.float32),
            images={name: np.empty((*shape, *image), np.uint8) for name, image in spec.image_shapes.items()},
            features={name: np.empty((*shape, *feature), np.float16) for name, feature in spec.feature_shapes.items()},
        )

    def copy(self, slots: Slots, batch: Observation, rows: Slots, rng: np.random.Generator | None) -> None:
        """Copy the frames in `slots` [n] to the rows `rows` [n] of what `empty` returned.

        Of several copies of features, `rng` chooses one for each; the first without it.
        """
        copy_rows(self.proprio, slots, batch.proprio, rows)
        for name, ring in self.images.items():
            copy_large_rows(ring, slots, batch.images[name], rows)
        copies = self._spec.feature_copies
        for name, features in self.features.items():
            places = slots
            if copies > 1:
                places = slots * copies + (rng.integers(copies, size=slots.shape) if rng is not None else 0)
            row = self._spec.feature_shapes[name]
            copy_large_rows(features.reshape(-1, *row), places, batch.features[name], rows)


def stored_shapes(spec: EnvSpec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of features as actors send them: several copies have a leading axis."""
    copies = (spec.feature_copies,) if spec.feature_copies > 1 else ()
    return {name: (*copies, *shape) for name, shape in spec.feature_shapes.items()}


def copy_rows(ring: NDArray[Any], slots: Slots, batch: Any, rows: Slots) -> None:
    """Copy the rows `slots` [n] of a ring [m *r] to the rows `rows` [n] of `batch` [*b *r], counted over all of *b."""
    _flat(batch, ring)[rows] = ring.take(slots, axis=0)


def copy_large_rows(ring: NDArray[Any], slots: Slots, batch: NDArray[Any], rows: Slots) -> None:
    """Do what `copy_rows` does, in one pass over the memory: one take for each run of consecutive rows."""
    flat = _flat(batch, ring)
    cuts = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
    for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        run = flat[rows[first] : rows[first] + last - first]
        ring.take(slots[first:last], axis=0, out=run, mode="clip")  # in its usual mode numpy would copy twice


def _flat(batch: NDArray[Any], ring: NDArray[Any]) -> NDArray[Any]:
    return batch.reshape(-1, *ring.shape[1:])
