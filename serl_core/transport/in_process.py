"""Actor and learner in one process: the same delivery rules without a socket, a thread or bytes.

Everything happens in the caller's thread, so a run in one thread is deterministic.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serl_core.errors import TransportError
from serl_core.transport.codec import decode_transition
from serl_core.transport.inbox import Inbox, mismatch
from serl_core.transport.interface import Hello, LearnerStatus, Params, PolicyWeights
from serl_core.types import Transition

_MAX_WAITING = 100_000  # transitions: each counts as one byte
_SIZE = 1


class InProcessHub:
    """Where one learner and its actors meet; stands for the network address."""

    def __init__(self) -> None:
        self.learner: InProcessLearnerLink | None = None

    def open_learner(self, spec_digest: str) -> "InProcessLearnerLink":
        """Return a new learner's end. Raises TransportError while another one is open."""
        if self.learner is not None:
            raise TransportError("a learner is open here already: close it first")
        self.learner = InProcessLearnerLink(self, spec_digest)
        return self.learner

    def actor(self) -> "InProcessActorLink":
        """Return a new actor's end."""
        return InProcessActorLink(self)


class InProcessLearnerLink:
    """A LearnerLink; made by `InProcessHub.open_learner`."""

    def __init__(self, hub: InProcessHub, spec_digest: str) -> None:
        self.inbox = Inbox(_MAX_WAITING)
        self.spec_digest = spec_digest
        self.weights: PolicyWeights | None = None
        self.actors: set[InProcessActorLink] = set()
        self._hub = hub

    def receive(self, timeout_s: float) -> Sequence[Transition]:
        """See LearnerLink."""
        return self.inbox.take(timeout_s)

    def acknowledge(self, session: str, sequence: int) -> None:
        """See LearnerLink."""
        self.inbox.acknowledge(session, sequence)

    def restore(self, acked: Mapping[str, int]) -> None:
        """See LearnerLink."""
        self.inbox.restore(acked)

    def report(self, env_steps: int, trained_env_steps: int, is_finished: bool = False) -> None:
        """See LearnerLink."""
        self.inbox.report(env_steps, trained_env_steps, is_finished)

    def publish(self, weights: PolicyWeights) -> None:
        """See LearnerLink. Copies: the learner may reuse its arrays."""
        self.weights = weights._replace(params=_copy(weights.params))
        self.inbox.publish(weights.version)

    def counters(self) -> Mapping[str, int]:
        """See LearnerLink."""
        return {**self.inbox.counters(), "connected": len(self.actors)}

    def close(self) -> None:
        """See LearnerLink."""
        if self._hub.learner is self:
            self._hub.learner = None


class InProcessActorLink:
    """An ActorLink; made by `InProcessHub.actor`."""

    def __init__(self, hub: InProcessHub) -> None:
        self._hub = hub
        self._hello: Hello | None = None
        self._polled: dict[str, LearnerStatus | None] = {}  # by session
        self._bases: dict[str, int] = {}

    def connect(self, hello: Hello, timeout_s: float) -> LearnerStatus:
        """See ActorLink."""
        self._hello = hello
        learner = self._learner()
        if learner is None:
            self._hello = None
            raise TransportError("there is no learner in this process: open it before its actors connect")
        self._polled = {hello.session: learner.inbox.status(hello.session)}
        return learner.inbox.status(hello.session)

    def offer(self, transitions: Sequence[Transition], *, after: int | None = None) -> None:
        """See ActorLink."""
        learner = self._learner()
        if learner is None or not transitions:
            return
        first = transitions[0].provenance
        assert first is not None
        self._polled.setdefault(first.session, None)
        base = self._bases.setdefault(first.session, first.sequence)
        if after is None:
            after = first.sequence - 1
        for transition in transitions:
            assert transition.provenance is not None
            sequence = transition.provenance.sequence
            learner.inbox.begin(first.session, min(base, sequence), after=after, first=sequence)
            learner.inbox.put(transition, _SIZE)
            after = sequence

    def offer_records(self, session: str, records: Sequence[tuple[int, bytes]], *, after: int) -> None:
        """See ActorLink."""
        self.offer([decode_transition(record) for _, record in records], after=after)

    def poll(self, timeout_s: float = 0.0) -> LearnerStatus | None:
        """See ActorLink. Never waits: nothing can change while the one thread is here."""
        learner = self._learner()
        if learner is None:
            return None
        for session, last in self._polled.items():
            status = learner.inbox.status(session)
            if status != last:
                self._polled[session] = status
                if session in self._bases:
                    self._bases[session] = max(self._bases[session], status.acked_sequence + 1)
                return status
        return None

    def newest_weights(self, than_version: int) -> PolicyWeights | None:
        """See ActorLink."""
        learner = self._learner()
        if learner is None or learner.weights is None or learner.weights.version <= than_version:
            return None
        return learner.weights

    def close(self) -> None:
        """See ActorLink."""
        if self._hub.learner is not None:
            self._hub.learner.actors.discard(self)
        self._hello = None

    def _learner(self) -> InProcessLearnerLink | None:
        """Return the learner that is there now, after introducing this actor to it."""
        learner = self._hub.learner
        if self._hello is None or learner is None:
            return None
        if learner.spec_digest != self._hello.spec_digest:
            raise TransportError(mismatch(self._hello.spec_digest, learner.spec_digest))
        if self not in learner.actors:
            learner.actors.add(self)
            learner.inbox.count("introduced")
            self._polled = dict.fromkeys(self._polled)  # a new learner says everything anew
        return learner


def _copy(tree: Params) -> dict[str, Any]:
    return {key: _copy(leaf) if isinstance(leaf, Mapping) else np.array(leaf) for key, leaf in tree.items()}
