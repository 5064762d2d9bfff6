import numpy as np
import pytest

from serl_core.errors import TransportError
from serl_core.transport import wire
from serl_core.transport.codec import encode_weights
from serl_core.transport.interface import PolicyWeights
from serl_core.transport.weights_pull import ASK_AGAIN_S, WeightsPull

PIECE = 100
NOW_S = 50.0


def record_of(version):
    return bytes(encode_weights(PolicyWeights(version, {"kernel": np.full(100, version, np.float32)}, 5)))


def give(pull, version, offset, record=None):
    record = record or record_of(version)
    pull.take(wire.Weights(version, len(record), offset), record[offset : offset + PIECE])


def get(pull, version, now_s=NOW_S):
    """Let it have all that it asks for, and return what that was."""
    asked = []
    while (wanted := pull.wanted(version, now_s)) is not None:
        asked.append(wanted)
        give(pull, version, wanted.offset)
    pull.close()
    return asked


def test_the_pieces_are_asked_for_in_turn_and_become_the_weights():
    pull = WeightsPull()
    asked = get(pull, 3)
    assert asked == [wire.Pull(0, 3 if offset else 0, offset) for offset in range(0, len(record_of(3)), PIECE)]
    assert pull.weights.version == 3
    np.testing.assert_array_equal(pull.weights.params["kernel"], np.full(100, 3, np.float32), strict=True)
    assert get(pull, 3) == []
    assert get(pull, 4)[0] == wire.Pull(3, 0, 0)
    assert pull.weights.version == 4


def test_a_piece_that_does_not_come_is_asked_for_again_after_a_while():
    pull = WeightsPull()
    pull.wanted(1, NOW_S)
    give(pull, 1, 0)
    wanted = pull.wanted(1, NOW_S)
    assert wanted == wire.Pull(0, 1, PIECE)
    assert pull.wanted(1, NOW_S + ASK_AGAIN_S / 2) is None
    assert pull.wanted(1, NOW_S + ASK_AGAIN_S) == wanted


def test_a_piece_that_comes_twice_or_of_other_weights_changes_nothing():
    pull = WeightsPull()
    for _ in range(2):
        give(pull, 1, 0)
    for offset in (PIECE, PIECE, 0):
        give(pull, 1, offset)
    give(pull, 2, 2 * PIECE)
    give(pull, 1, 3 * PIECE)
    assert pull.wanted(1, NOW_S) == wire.Pull(0, 1, 2 * PIECE)
    get(pull, 1, NOW_S + ASK_AGAIN_S)
    assert pull.weights.version == 1


def test_weights_of_which_a_piece_was_damaged_are_not_adopted_and_asked_for_again_later():
    pull = WeightsPull()
    damaged = record_of(1)[:-1] + b"\xff"
    for offset in range(0, len(damaged), PIECE):
        give(pull, 1, offset, damaged)
    pull.close()
    assert pull.weights is None
    assert pull.wanted(1, 0.0) is None
    assert get(pull, 1, 1e9)
    assert pull.weights.version == 1


def test_older_weights_never_replace_newer_ones():
    pull = WeightsPull()
    get(pull, 4)
    for offset in range(0, len(record_of(2)), PIECE):
        give(pull, 2, offset)
    pull.close()
    assert pull.weights.version == 4


def test_weights_that_are_ready_between_two_looks_are_not_asked_for_again(monkeypatch):
    """The actor then waited for the rest of them for ever, for its learner had no newer ones than those it held."""
    pull = WeightsPull()

    def ready(self):
        if self.weights is None:
            self.weights = PolicyWeights(1, {}, 0)
        return False

    monkeypatch.setattr(WeightsPull, "is_decoding", property(ready))
    assert pull.wanted(1, NOW_S) is None


@pytest.mark.parametrize("size", [0, PIECE + 1])
def test_a_piece_of_another_size_than_was_said_is_refused(size):
    with pytest.raises(TransportError, match=f"a piece of {size} bytes, with {PIECE} to come"):
        WeightsPull().take(wire.Weights(1, PIECE, 0), bytes(size))
