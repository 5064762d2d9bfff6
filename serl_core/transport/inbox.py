"""What a learner knows of its actors' streams: each transition once, in order, bounded. Shared by all transports.

A session's stream is accepted in sequence only. Anything else is either a duplicate or comes too
early (something before it was lost, or the inbox was full); both are dropped, and the sender finds
out from `received_sequence`.
"""

import threading
import uuid
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass

from serl_core.digests import other_encoder
from serl_core.transport.interface import LearnerStatus
from serl_core.types import Transition

MAX_REASON = 1024  # characters
MAX_BYTES = 64 * 2**20  # of transitions that the learner has not taken yet


@dataclass
class _Stream:
    received: int = -1
    acked: int = -1
    rejection: str = ""  # of the one after `received`

    def pass_over(self, sequence: int) -> None:
        """Go on after `sequence`, unless that is known already."""
        if sequence > self.received:
            self.received, self.rejection = sequence, ""


class Inbox:
    """The state behind a LearnerLink. Safe to use from several threads; never blocks but in `take`."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._streams: dict[str, _Stream] = {}
        self._awaited: set[str] = set()  # sessions
        self._waiting: deque[tuple[Transition, int]] = deque()
        self._bytes = 0
        self._untold = 0  # transitions taken since the last report, which does not count them yet
        self._policy_version = 0
        self._progress = (0, 0, False)
        self._counters = {"introduced": 0, "received": 0, "duplicate": 0, "rejected": 0, "refused": 0}
        self._learner = uuid.uuid4().hex

    def begin(self, session: str, base: int, *, after: int | None = None, first: int = 0) -> int:
        """Return the sequence that `session` must send next, given that `base` is its oldest unacknowledged.

        Everything before `base` is safe on some learner's disk, so a learner that starts afresh goes
        on from there. Likewise nothing is missing between `after` and `first`, where they are given.
        """
        with self._changed:
            stream = self._streams.setdefault(session, _Stream())
            stream.pass_over(base - 1)
            if after is not None and stream.received >= after:
                stream.pass_over(first - 1)
            return stream.received + 1

    def refuse(self, session: str, sequence: int, reason: str) -> None:
        """Note that the transition that must come next can never be taken; it stays so until it is passed over."""
        with self._changed:
            stream = self._streams[session]
            if sequence == stream.received + 1 and stream.rejection != reason:
                stream.rejection = reason[:MAX_REASON]
                self._awaited.add(session)
                self._counters["refused"] += 1

    def put(self, transition: Transition, size: int) -> bool:
        """Keep a transition of `size` bytes for `take`, if it is the next of its session and there is room."""
        assert transition.provenance is not None
        with self._changed:
            stream = self._streams[transition.provenance.session]
            if transition.provenance.sequence <= stream.received:
                self._counters["duplicate"] += 1
                return False
            if transition.provenance.sequence != stream.received + 1 or self._bytes + size > self._max_bytes:
                return False
            stream.pass_over(stream.received + 1)
            self._counters["received"] += 1
            self._waiting.append((transition, size))
            self._bytes += size
            self._changed.notify()
            return True

    def count(self, name: str, times: int = 1) -> int:
        """Add to one of the counters and return it."""
        with self._changed:
            self._counters[name] += times
            return self._counters[name]

    def take(self, timeout_s: float) -> list[Transition]:
        """Return everything that is waiting; wait up to `timeout_s` when nothing is."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            taken = [transition for transition, _ in self._waiting]
            self._waiting.clear()
            self._bytes = 0
            self._untold += len(taken)
            return taken

    def acknowledge(self, session: str, sequence: int) -> None:
        """Note that all of `session` up to `sequence` are on disk."""
        with self._changed:
            stream = self._streams.setdefault(session, _Stream())
            stream.acked = max(stream.acked, sequence)
            stream.pass_over(sequence)
            self._awaited.add(session)

    def restore(self, acked: Mapping[str, int]) -> None:
        """Note what was on disk at start; of what has arrived since, drop the repeats."""
        for session, sequence in acked.items():
            self.acknowledge(session, sequence)
        with self._changed:
            fresh = [entry for entry in self._waiting if not _is_in(acked, entry[0])]
            self._counters["duplicate"] += len(self._waiting) - len(fresh)
            self._waiting = deque(fresh)
            self._bytes = sum(size for _, size in fresh)

    def report(self, env_steps: int, trained_env_steps: int, is_finished: bool) -> None:
        """Set the learner's progress, which counts all it has taken."""
        with self._changed:
            self._untold = 0
            self._progress = (env_steps, trained_env_steps, is_finished)
            if is_finished:
                self._awaited.update(self._streams)

    def publish(self, version: int) -> None:
        """Set the version of the newest weights."""
        with self._changed:
            self._policy_version = version
            self._awaited.update(self._streams)

    def awaited(self) -> Set[str]:
        """Return the sessions whose status has changed, since the last call, in what an actor waits for.

        That is not `env_steps`: each step of any actor changes it for all.
        """
        with self._changed:
            awaited, self._awaited = self._awaited, set()
            return awaited

    def status(self, session: str) -> LearnerStatus:
        """Return what an actor may know about its `session` and the learner."""
        with self._changed:
            stream = self._streams.get(session, _Stream())
            env_steps, trained_env_steps, is_finished = self._progress
            return LearnerStatus(
                acked_sequence=stream.acked,
                env_steps=env_steps + self._untold + len(self._waiting),
                trained_env_steps=trained_env_steps,
                policy_version=self._policy_version,
                is_finished=is_finished,
                session=session,
                received_sequence=stream.received,
                rejection=stream.rejection,
                learner=self._learner,
            )

    @property
    def is_behind(self) -> bool:
        """Whether anything has been received and is not acknowledged."""
        with self._changed:
            return any(stream.received > stream.acked for stream in self._streams.values())

    def counters(self) -> dict[str, int]:
        """Return the counts since start."""
        with self._changed:
            return dict(self._counters)


def _is_in(acked: Mapping[str, int], transition: Transition) -> bool:
    assert transition.provenance is not None
    return transition.provenance.sequence <= acked.get(transition.provenance.session, -1)


def mismatch(actor_digest: str, learner_digest: str) -> str:
    """Return why an actor of another task, or with another frozen encoder, is refused."""
    encoders = other_encoder(actor_digest, learner_digest)
    if encoders is not None:
        return (
            f"the actor's features come from the encoder {encoders[0]}, the learner's from {encoders[1]}: start both "
            "with the same EncoderConfig and the same weights"
        )
    return (
        f"the actor's task has digest {actor_digest}, the learner's {learner_digest}: "
        f"start both with the same task and configuration"
    )
