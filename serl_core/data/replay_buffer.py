"""Experience in preallocated rings: each frame is stored once, and never pairs with another segment's.

A slot holds one frame and the step that began there. Where that step ended is an explicit index, not
"the next slot", so sessions may interleave and the ring may wrap. The last frame of a segment has no
step and is never drawn as a start. A segment is a run of consecutive steps of one episode of one
session.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_core.data.memory import available_bytes, too_large
from serl_core.data.relabels import Episode, Label, Outcome, relabelled
from serl_core.data.rings import Frames, Slots, copy_rows, stored_shapes
from serl_core.errors import DataError
from serl_core.types import EndReason, EnvSpec, Observation, Transition

_NONE = -1


class SlotQueue:
    """Slots in the order in which they were added, with O(1) add and discard, and uniform draws.

    A draw depends on the order of what is in it, and on nothing that was: a buffer rebuilt from the newest transitions
    alone gives the same batches. At most `capacity` slots are added while the oldest stays.
    """

    def __init__(self, capacity: int) -> None:
        self._items = np.full(capacity, _NONE, np.int64)  # a ring, with a hole where a slot was discarded
        self._place = np.full(capacity, _NONE, np.int64)  # by slot, counted over all that were ever added
        self._first = 0  # of the places, never a hole
        self._end = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, slot: int) -> None:
        """Put in a slot that is not there."""
        self._items[self._end % len(self._items)] = slot
        self._place[slot] = self._end
        self._end += 1
        self._size += 1

    def discard(self, slot: int) -> None:
        """Take a slot out, if it is there."""
        place = self._place[slot]
        if place == _NONE:
            return
        self._items[place % len(self._items)] = _NONE
        self._place[slot] = _NONE
        self._size -= 1
        while self._first < self._end and self._items[self._first % len(self._items)] == _NONE:
            self._first += 1

    def draw(self, rng: np.random.Generator, count: int) -> Slots:
        """Return `count` slots, uniform with replacement. Must not be empty."""
        places = self._first + rng.integers(self._end - self._first, size=count)
        slots = self._items.take(places % len(self._items))
        holes = np.flatnonzero(slots == _NONE)
        if len(holes):
            slots[holes] = self.draw(rng, len(holes))
        return slots


class _Tail(NamedTuple):
    """The open end of a session's present segment."""

    slot: int
    episode: int
    sequence: int  # of the step that led there


class View:
    """Some of a buffer's transitions, kept up to date by it."""

    def __init__(self, buffer: "ReplayBuffer", members: SlotQueue) -> None:
        self._buffer = buffer
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> Slots:
        """Return the slots of transitions, uniform with replacement."""
        return self._members.draw(rng, math.prod(shape)).reshape(tuple(shape))

    def sample(self, rng: np.random.Generator, shape: Sequence[int]) -> Transition:
        """Return a batch of transitions with leading dims `shape`, uniform with replacement.

        Raises:
            DataError: there is nothing to sample from.
        """
        if not len(self):
            raise DataError("there is no transition to sample from yet")
        return self._buffer.at(self.draw(rng, shape), rng)


class ReplayBuffer(View):
    """All transitions of a ring, oldest overwritten first.

    Args:
        spec: the shapes of an observation and an action.
        capacity: how many frames are kept. A segment of n steps takes n + 1.
        overwrites: False for demonstrations, which are kept for ever: a full buffer then refuses more.

    Raises:
        ConfigError: the machine has no memory for so many.
    """

    def __init__(self, spec: EnvSpec, capacity: int, *, overwrites: bool = True) -> None:
        if capacity < 2:
            raise DataError(f"a replay buffer needs room for at least 2 frames, got {capacity}")
        super().__init__(self, SlotQueue(capacity))
        self.capacity = capacity
        self.interventions = View(self, SlotQueue(capacity))
        self._overwrites = overwrites
        self._spec = spec
        self._action_shape, self._feature_shapes = (spec.action.size,), stored_shapes(spec)
        try:
            self._frames = Frames(spec, capacity)
            self._action = np.zeros((capacity, spec.action.size), np.float32)
            self._reward = np.zeros(capacity, np.float32)
            self._discount = np.zeros(capacity, np.float32)
            self._is_intervention = np.zeros(capacity, np.bool_)
            self._end = np.zeros(capacity, np.int8)
            self._next = np.full(capacity, _NONE, np.int64)
        except MemoryError:
            raise too_large(spec, capacity, available_bytes()) from None
        self._head = 0  # frames ever stored
        self._tails: dict[str, _Tail] = {}
        self._ends: dict[Episode, int] = {}  # the slot of each episode's last step
        self._ended: dict[int, Episode] = {}  # the same by slot
        self._as_sent: dict[int, Outcome] = {}  # of the slots whose label was corrected

    @classmethod
    def holding(cls, spec: EnvSpec, episodes: Iterable[Sequence[Transition]]) -> "ReplayBuffer":
        """Return a buffer just large enough for `episodes`, which it never overwrites: demonstrations."""
        kept = list(episodes)
        frames = sum(2 * len(episode) for episode in kept)  # enough even if every step is its own segment
        buffer = cls(spec, max(frames, 2), overwrites=False)
        for episode in kept:
            for transition in episode:
                buffer.insert(transition)
        return buffer

    def insert(self, transition: Transition) -> None:
        """Store one step.

        It goes on with its session's segment if it is the next step of the same episode and starts
        from the very frame where that ended; otherwise (a gap, another episode) it starts a new one.

        Raises:
            DataError: an array does not fit the spec, or a buffer that does not overwrite is full.
        """
        provenance = transition.provenance
        if provenance is None:
            raise DataError("a transition without provenance cannot be stored: it belongs to no episode")
        self.check(transition)
        tail = self._tails.pop(provenance.session, None)
        continues = (
            tail is not None
            and tail.episode == provenance.episode
            and tail.sequence + 1 == provenance.sequence
            and np.array_equal(self._frames.proprio[tail.slot], transition.observation.proprio)
        )
        if not self._overwrites and self._head + (1 if continues else 2) > self.capacity:
            raise DataError(f"this buffer of {self.capacity} frames is full and never overwrites; make it larger")
        slot = tail.slot if tail is not None and continues else self._store(transition.observation)
        end_slot = self._store(transition.next_observation)
        self._action[slot] = transition.action
        self._reward[slot] = transition.reward
        self._discount[slot] = transition.discount
        self._is_intervention[slot] = transition.is_intervention
        self._end[slot] = transition.end
        if slot != end_slot:
            self._next[slot] = end_slot
            self._members.add(slot)
            if transition.is_intervention:
                self.interventions._members.add(slot)
        if transition.end == EndReason.RUNNING:
            self._tails[provenance.session] = _Tail(end_slot, provenance.episode, provenance.sequence)
        elif slot != end_slot:
            episode = (provenance.session, provenance.episode)
            self._ends[episode], self._ended[slot] = slot, episode

    def relabel(self, session: str, episode: int, label: Label | None) -> bool:
        """Correct how an episode ended, or with None take that back; return False if its end is not here any more.

        The same transitions are drawn as before; only the reward, discount and end of its last one change.
        """
        slot = self._ends.get((session, episode))
        if slot is None:
            return False
        stored = Outcome(float(self._reward[slot]), float(self._discount[slot]), EndReason(int(self._end[slot])))
        outcome = relabelled(label, self._as_sent.setdefault(slot, stored))
        self._reward[slot], self._discount[slot], self._end[slot] = outcome
        return True

    def at(self, slots: Slots, rng: np.random.Generator | None = None) -> Transition:
        """Return the transitions that begin at `slots` [*b], as a batch with leading dims [*b].

        Of several copies of features, `rng` chooses one for each place; the first without it.
        """
        batch = self.empty_batch(slots.shape)
        self.copy(slots.ravel(), batch, np.arange(slots.size), rng)
        return batch

    def empty_batch(self, shape: tuple[int, ...]) -> Transition:
        """Return fresh arrays for a batch with leading dims `shape`: JAX may keep reading the ones from before."""
        return Transition(
            observation=self._frames.empty(shape),
            action=np.empty((*shape, self._spec.action.size), np.float32),
            reward=np.empty(shape, np.float32),
            discount=np.empty(shape, np.float32),
            next_observation=self._frames.empty(shape),
            is_intervention=np.empty(shape, np.bool_),
            end=np.empty(shape, np.int8),
        )

    def copy(self, slots: Slots, batch: Transition, rows: Slots, rng: np.random.Generator | None = None) -> None:
        """Copy the transitions that begin at `slots` [n] into a batch of `empty_batch`, as `at` would return them.

        Args:
            rows: where to [n], counted over all leading dims of the batch.
        """
        self._frames.copy(slots, batch.observation, rows, rng)
        self._frames.copy(self._next.take(slots), batch.next_observation, rows, rng)
        for ring, out in (
            (self._action, batch.action),
            (self._reward, batch.reward),
            (self._discount, batch.discount),
            (self._is_intervention, batch.is_intervention),
            (self._end, batch.end),
        ):
            copy_rows(ring, slots, out, rows)

    def _store(self, observation: Observation) -> int:
        slot = self._head % self.capacity
        self._head += 1
        self._members.discard(slot)
        self.interventions._members.discard(slot)
        self._next[slot] = _NONE
        self._as_sent.pop(slot, None)
        if (episode := self._ended.pop(slot, None)) is not None:
            del self._ends[episode]
        for session in [session for session, tail in self._tails.items() if tail.slot == slot]:
            del self._tails[session]  # the rest of its episode starts a new segment
        self._frames.put(slot, observation)
        return slot

    def check(self, transition: Transition) -> None:
        """Raise DataError unless the transition's arrays fit the spec."""
        _check_shape("action", transition.action, self._action_shape)
        for name, observation in (
            ("observation", transition.observation),
            ("next_observation", transition.next_observation),
        ):
            _check_shape(f"{name}.proprio", observation.proprio, (self._spec.proprio_size,))
            _check_shapes(f"{name}.images", observation.images, self._spec.image_shapes)
            _check_shapes(f"{name}.features", observation.features, self._feature_shapes)


def _check_shapes(name: str, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if arrays.keys() != shapes.keys():
        raise DataError(f"{name} are {sorted(arrays)}, the task's {sorted(shapes)}: recorded for another task")
    for key, shape in shapes.items():
        _check_shape(f"{name}/{key}", arrays[key], shape)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, the task's {shape}: recorded for another task")
