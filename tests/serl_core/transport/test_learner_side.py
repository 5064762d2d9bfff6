import pytest

from serl_core.testing.episodes import make_episode
from serl_core.transport import wire
from serl_core.transport.inbox import Inbox
from serl_core.transport.learner_side import (
    BURST_S,
    HOLD_S,
    LEAST_PIECE_BYTES,
    MOST_PIECE_BYTES,
    PIECE_S,
    PROGRESS_PERIOD_S,
    WEIGHTS_BYTES_PER_S,
    LearnerSide,
)


class Line:
    """What a learner says to its actors."""

    def __init__(self):
        self.now_s = 0.0
        self.given = []  # (actor, version, offset, bytes)
        self.told = []  # (actor, status)
        self.is_full = False
        self.inbox = Inbox()
        self.side = LearnerSide("task", self.inbox)

    def send(self, frames):
        identity, head, *records = frames
        message = wire.decode_from_learner(head)
        if isinstance(message, wire.Weights) and not self.is_full:
            self.given.append((identity, message.version, message.offset, bytes(records[0])))
        if isinstance(message, wire.Status):
            self.told.append((identity, message))
        return not self.is_full

    def hear(self, identity, message):
        return self.side.handle([identity, wire.encode(message)], self.send, self.now_s)

    def join(self, identity, session="session"):
        self.hear(identity, wire.Greeting(wire.PROTOCOL, "actor", session, "task"))

    def ticked(self, after_s):
        """Return what is told then, and when the side wants to be asked again."""
        self.told.clear()
        self.now_s += after_s
        wait_s = self.side.tick(self.send, self.now_s)
        return [(identity, status.acked_sequence, status.env_steps) for identity, status in self.told], wait_s

    def pulled(self, identity, *arguments):
        """Return what a pull is answered with."""
        self.given.clear()
        self.now_s += 1.0
        assert not self.hear(identity, wire.Pull(*arguments))
        return list(self.given)


@pytest.fixture
def line():
    line = Line()
    line.side.weights_record = (1, memoryview(bytes(LEAST_PIECE_BYTES) + b"end"))
    line.join(b"a")
    return line


def test_a_pull_is_answered_with_one_piece_and_the_last_one_is_what_is_left(line):
    """Whole copies for eight actors at once kept every acknowledgement waiting behind 160 MB."""
    assert line.pulled(b"a", 0, 0, 0) == [(b"a", 1, 0, bytes(LEAST_PIECE_BYTES))]
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == [(b"a", 1, LEAST_PIECE_BYTES, b"end")]


def test_an_actor_that_has_the_newest_or_has_left_gets_nothing(line):
    assert line.pulled(b"a", 1, 0, 0) == []
    line.hear(b"a", wire.Leaving())
    assert line.pulled(b"a", 0, 0, 0) == []


def test_weights_that_are_under_way_are_completed_although_there_are_newer_ones(line):
    """On a slow line they would never be complete, were each publication to begin anew."""
    line.pulled(b"a", 0, 0, 0)
    line.side.weights_record = (2, memoryview(b"newer"))
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == [(b"a", 1, LEAST_PIECE_BYTES, b"end")]
    assert line.pulled(b"a", 1, 0, 0) == [(b"a", 2, 0, b"newer")]


def test_a_piece_that_was_lost_is_given_again_also_the_last_one(line):
    line.pulled(b"a", 0, 0, 0)
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES)


def test_who_wants_to_go_on_with_weights_that_are_gone_gets_the_newest_from_their_beginning(line):
    """Its learner was started again."""
    line.side.weights_record = (7, memoryview(b"newest"))
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == [(b"a", 7, 0, b"newest")]


def test_who_goes_on_with_weights_that_it_has_already_gets_newer_ones(line):
    line.pulled(b"a", 0, 0, 0)
    line.side.weights_record = (2, memoryview(b"newer"))
    assert line.pulled(b"a", 1, 1, LEAST_PIECE_BYTES) == [(b"a", 2, 0, b"newer")]


def test_a_piece_that_does_not_get_onto_the_line_is_not_given(line):
    line.is_full = True
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == []
    line.is_full = False
    assert line.pulled(b"a", 0, 1, LEAST_PIECE_BYTES) == [(b"a", 1, LEAST_PIECE_BYTES, b"end")]


def test_a_pull_from_beyond_the_end_begins_anew(line):
    line.pulled(b"a", 0, 0, 0)
    assert line.pulled(b"a", 0, 1, 2 * LEAST_PIECE_BYTES) == [(b"a", 1, 0, bytes(LEAST_PIECE_BYTES))]


@pytest.mark.parametrize(
    ("bytes_per_s", "size"), [(1e9, MOST_PIECE_BYTES), (4e6, 4e6 * PIECE_S), (1e4, LEAST_PIECE_BYTES)]
)
def test_a_piece_is_as_large_as_its_line_is_fast(line, bytes_per_s, size):
    """Small ones were much work for eight actors; a large one on a slow line keeps a status waiting."""
    line.side.weights_record = (1, memoryview(bytes(2**23)))
    offset = 0
    for _ in range(4):
        line.hear(b"a", wire.Pull(0, 1, offset))
        piece = line.given[-1][3]
        offset += len(piece)
        line.now_s += len(piece) / bytes_per_s
    assert len(piece) == pytest.approx(size, rel=1e-3)


def test_weights_wait_a_little_for_what_is_not_acknowledged(line):
    """Experience goes first, but an actor that always has some under way gets weights all the same."""
    size = 8 * MOST_PIECE_BYTES
    line.side.weights_record = (1, memoryview(bytes(size)))

    def takes_s(offset):
        line.given.clear()
        line.hear(b"a", wire.Pull(0, 1, offset))
        begun_s = line.now_s
        while not line.given:
            wait_s = line.side.tick(line.send, line.now_s)
            line.now_s += 0.0 if line.given else wait_s + 1e-9
        return line.now_s - begun_s

    line.now_s = 1.0
    assert takes_s(0) == 0.0
    line.side._inbox.begin("session", 0)
    line.side._inbox.put(make_episode()[0], 100)
    held_s = takes_s(LEAST_PIECE_BYTES)
    line.side._inbox.acknowledge("session", 0)
    assert held_s == pytest.approx(HOLD_S)
    line.now_s += 1.0
    assert takes_s(2 * LEAST_PIECE_BYTES) == 0.0


def test_pieces_are_given_no_faster_than_is_allowed_and_first_to_who_has_the_most(line):
    """Eight actors that unpacked 20 MB at the same time kept both cores from everything else."""
    size = 20 * MOST_PIECE_BYTES
    line.side.weights_record = (1, memoryview(bytes(size)))
    line.join(b"b")
    offsets = {b"a": 0, b"b": 0}
    heard = 0
    for identity in offsets:
        line.hear(identity, wire.Pull(0, 0, 0))
    while min(offsets.values()) < size:
        while heard < len(line.given):
            identity, version, offset, piece = line.given[heard]
            heard += 1
            offsets[identity] = offset + len(piece)
            if offsets[identity] < size:
                line.hear(identity, wire.Pull(0, version, offsets[identity]))
        line.side.tick(line.send, line.now_s)
        line.now_s += 0.0005
    assert line.now_s == pytest.approx(2 * size / WEIGHTS_BYTES_PER_S, rel=0.05, abs=2 * BURST_S)
    done = max(i for i, (identity, *_) in enumerate(line.given) if identity == b"a")
    assert sum(len(piece) for identity, _, _, piece in line.given[:done] if identity == b"b") < size / 2


def test_an_acknowledgement_is_told_at_once_and_the_progress_of_all_now_and_then(line):
    line.join(b"b", "another")
    line.inbox.begin("session", 0)
    assert line.ticked(1.0)[0] == [(b"a", -1, 0), (b"b", -1, 0)]
    for steps in range(1, 10):  # of all actors, in a row
        line.inbox.report(steps, 0, is_finished=False)
        assert line.ticked(0.0)[0] == []
    line.inbox.acknowledge("another", 0)
    assert line.ticked(0.0)[0] == [(b"b", 0, 9)]
    told, wait_s = line.ticked(0.9 * PROGRESS_PERIOD_S)
    assert told == []
    assert wait_s == PROGRESS_PERIOD_S
    assert line.ticked(0.2 * PROGRESS_PERIOD_S)[0] == [(b"a", -1, 9)]
    line.inbox.report(9, 9, is_finished=True)
    assert len(line.ticked(0.0)[0]) == 2
