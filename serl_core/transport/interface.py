"""How experience travels from actors to the learner, and policy weights back.

Delivery is at least once on the wire and exactly once in effect: the actor's spool keeps every
transition until the learner acknowledges `(session, sequence)`, which it does once its own log is
synced to disk, about each second; the learner drops what it has seen. Weights are state, not a
stream: only the newest matters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from serl_core.types import Transition

Params = Mapping[str, Any]  # a plain nested tree of arrays


class PolicyWeights(NamedTuple):
    """The policy's parameters alone (no critic, no optimiser). Versions rise from 1."""

    version: int
    params: Params
    env_steps: int  # of the learner when it published: tells an actor how far ahead it is


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What an actor says first; the learner refuses one that does not fit, naming both values."""

    actor_id: str
    session: str
    spec_digest: str  # of the EnvSpec and task config


class LearnerStatus(NamedTuple):
    """Comes back with every acknowledgement."""

    acked_sequence: int  # all of `session` up to here are on the learner's disk, power cut or not; -1 for none
    env_steps: int  # online transitions the learner has, also those it has received and not yet taken in
    trained_env_steps: int  # online transitions whose updates are done: the actor's lead is measured to here
    policy_version: int
    is_finished: bool = False  # training is over: actors stop
    session: str = ""  # whose sequences these are: a restarted actor still waits for its earlier ones
    received_sequence: int = -1  # up to here in the learner's memory; falls back when the learner restarts
    rejection: str = ""  # why the learner will never take the next one; the actor puts it into quarantine
    learner: str = ""  # another one after each start: what was under way to an earlier one is lost


@runtime_checkable  # the type checks under pytest ask for it
class ActorLink(Protocol):
    """An actor's end. Calls do not block longer than `timeout_s` and survive a learner restart."""

    def connect(self, hello: Hello, timeout_s: float) -> LearnerStatus:
        """Introduce this session. Raises TransportError when refused, or when nobody answers."""

    def offer(self, transitions: Sequence[Transition], *, after: int | None = None) -> None:
        """Send transitions of one session, in order. Returns at once; unacknowledged ones may be offered again.

        The first offer of a session starts at its oldest unacknowledged transition. What finds no way
        (no learner, a full queue) is dropped: `LearnerStatus.received_sequence` tells what to offer again.

        Args:
            transitions: where a number is left out, that one never comes: it is in quarantine.
            after: the number after which the first of them comes, -1 if all before it are acknowledged or in
                quarantine; the number before its own if not given.
        """

    def offer_records(self, session: str, records: Sequence[tuple[int, bytes]], *, after: int) -> None:
        """Do that with transitions as the codec has written them, each with its number: so it costs hardly any time."""

    def poll(self, timeout_s: float = 0.0) -> LearnerStatus | None:
        """Return the newest status of a session since its last poll, if any.

        Raises:
            TransportError: the learner has refused this actor.
        """

    def newest_weights(self, than_version: int) -> PolicyWeights | None:
        """Return the newest weights above `than_version`, or None. Never blocks; asks in the background."""

    def close(self) -> None:
        """Leave. Safe to call twice."""


@runtime_checkable  # the type checks under pytest ask for it
class LearnerLink(Protocol):
    """The learner's end, for any number of actors."""

    def receive(self, timeout_s: float) -> Sequence[Transition]:
        """Return transitions not seen before, in order per session; empty after `timeout_s`."""

    def acknowledge(self, session: str, sequence: int) -> None:
        """Tell the actor that all of `session` up to `sequence` are safe on disk: it forgets them."""

    def restore(self, acked: Mapping[str, int]) -> None:
        """Set the last safe sequence per session, after a restart from disk."""

    def report(self, env_steps: int, trained_env_steps: int, is_finished: bool = False) -> None:
        """Set what LearnerStatus carries and send it to every actor soon; those that run ahead wait on it.

        `env_steps` counts everything that `receive` has returned.
        """

    def publish(self, weights: PolicyWeights) -> None:
        """Replace the weights actors may pull."""

    def counters(self) -> Mapping[str, int]:
        """Return what was counted since the start, and how many actors are `connected` now.

        Counted are `introduced` connections, `rejected` messages, `received`, `duplicate` and `refused` transitions.
        """

    def close(self) -> None:
        """Unbind. Safe to call twice."""
