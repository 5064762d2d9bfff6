import pytest

from serl_core.errors import TransportError
from serl_core.transport import wire

OFFER = wire.Offer("session", 3, 5, 7)


def test_a_message_comes_back():
    assert wire.decode_from_actor(wire.encode(OFFER)) == OFFER
    status = wire.Status(1, 2, 3, 4, True, "session", 5, "why", "learner")
    assert wire.decode_from_learner(wire.encode(status)) == status


def test_a_flipped_bit_anywhere_is_noticed():
    """One in the numbers of an offer could pass over experience that was never received."""
    frame = wire.encode(OFFER)
    for bit in range(8 * len(frame)):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TransportError, match="CRC-32"):
            wire.decode_from_actor(bytes(changed))


def test_a_message_is_small():
    with pytest.raises(TransportError, match="8192 are allowed"):
        wire.decode_from_actor(b"\0" * 10_000)


def test_the_protocol_of_a_greeting_is_read_whatever_follows_it():
    greeting = wire.Greeting(wire.PROTOCOL + 1, "actor", "session", "cafe")
    assert wire.foreign_protocol(wire.encode(greeting)) == wire.PROTOCOL + 1
    assert wire.foreign_protocol(wire.encode(wire.Greeting(wire.PROTOCOL, "actor", "session", "cafe"))) is None
    assert wire.foreign_protocol(wire.encode(OFFER)) is None
    assert wire.foreign_protocol(b"garbage") is None
