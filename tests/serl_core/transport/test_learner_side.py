import pytest

from serl_core.transport import wire
from serl_core.transport.inbox import Inbox
from serl_core.transport.learner_side import STATUS_PERIOD_S, WEIGHTS_BYTES_PER_S, LearnerSide

TURN_S = 0.04
RECORD = bytes(round(TURN_S * WEIGHTS_BYTES_PER_S))


class Line:
    """What a learner says to its actors."""

    def __init__(self):
        self.weights = []  # (seconds, actor)
        self.now_s = 0.0
        self.side = LearnerSide("task", Inbox())
        self.side.weights_record = (1, RECORD)

    def send(self, frames):
        identity, head, *_ = frames
        if isinstance(wire.decode_from_learner(head), wire.Weights):
            self.weights.append((self.now_s, identity))
        return True

    def hear(self, identity, message):
        self.side.handle([identity, wire.encode(message)], self.send, self.now_s)

    def join(self, identity):
        self.hear(identity, wire.Greeting(wire.PROTOCOL, "actor", "session", "task"))

    def tick(self):
        wait_s = self.side.tick(self.send, self.now_s)
        self.now_s += wait_s
        return wait_s


def test_actors_get_large_weights_one_after_the_other():
    """Copies for eight actors at once kept every acknowledgement waiting behind 160 MB."""
    line, actors = Line(), [b"a", b"b", b"c"]
    for identity in actors:
        line.join(identity)
        line.hear(identity, wire.Pull(0))
    assert line.weights == [(0.0, b"a")]
    while line.tick() < STATUS_PERIOD_S:
        pass
    assert [identity for _, identity in line.weights] == actors
    assert [at_s for at_s, _ in line.weights] == pytest.approx([0.0, TURN_S, 2 * TURN_S])


def test_who_asks_twice_or_has_left_gets_no_turn():
    line = Line()
    for identity in (b"a", b"b", b"c"):
        line.join(identity)
        line.hear(identity, wire.Pull(0))
    line.hear(b"c", wire.Pull(0))
    line.hear(b"b", wire.Leaving())
    while line.tick() < STATUS_PERIOD_S:
        pass
    assert [identity for _, identity in line.weights] == [b"a", b"c"]
