"""The small messages between actor and learner; transitions and weights follow them as records of the codec.

A message is the CRC-32 of its msgpack, and that: a number that changed on its way could pass over experience.
"""

import struct
import zlib
from typing import Annotated

import msgspec

from serl_core.errors import TransportError
from serl_core.transport.codec import MAX_WEIGHTS_BYTES, SESSION

PROTOCOL = 4

MAX_HEAD_BYTES = 8192  # no message but its records is larger

_CHECKSUM = struct.Struct("<I")
_Session = Annotated[str, msgspec.Meta(pattern=SESSION.pattern)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Sequence = Annotated[int, msgspec.Meta(ge=-1, le=2**62)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Greeting(_Message, frozen=True, tag="greeting"):
    """Actor: who I am. Repeated as a sign of life, so a learner that restarts knows its actors again."""

    protocol: int
    actor_id: _Text
    session: _Session
    spec_digest: _Text


class Offer(_Message, frozen=True, tag="offer"):
    """Actor: transitions of `session` from `first` on, a record each.

    All before `base` are acknowledged, or never come. Between `after` and `first` none comes any more: those are
    acknowledged, or the actor keeps them in quarantine.
    """

    session: _Session
    base: _Count
    after: _Sequence
    first: _Count


class Pull(_Message, frozen=True, tag="pull"):
    """Actor: send me your weights if they are newer than `than_version`.

    I have `offset` bytes of the record of `version`; 0 of version 0 if I have none.
    """

    than_version: _Count
    version: _Count
    offset: _Count


class Leaving(_Message, frozen=True, tag="leaving"):
    """Actor: goodbye."""


class Status(_Message, frozen=True, tag="status"):
    """Learner: a LearnerStatus."""

    acked_sequence: _Sequence
    env_steps: _Count
    trained_env_steps: _Count
    policy_version: _Count
    is_finished: bool
    session: _Session
    received_sequence: _Sequence
    rejection: _Text
    learner: _Text


class Weights(_Message, frozen=True, tag="weights"):
    """Learner: from `offset` on, a piece of the record of weights follows, which has `size` bytes in all."""

    version: _Count
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_WEIGHTS_BYTES)]
    offset: _Count


class Refusal(_Message, frozen=True, tag="refusal"):
    """Learner: I do not work with you."""

    reason: _Text


FromActor = Greeting | Offer | Pull | Leaving
FromLearner = Status | Weights | Refusal

_encoder = msgspec.msgpack.Encoder()
_from_actor = msgspec.msgpack.Decoder(FromActor)
_from_learner = msgspec.msgpack.Decoder(FromLearner)


def encode(message: FromActor | FromLearner) -> bytes:
    """Return the bytes of a message."""
    body = _encoder.encode(message)
    return _CHECKSUM.pack(zlib.crc32(body)) + body


def foreign_protocol(frame: bytes) -> int | None:
    """Return the protocol of a greeting that is not ours, however the rest of it looks; else None."""
    try:
        match msgspec.msgpack.decode(_body(frame)):
            case ["greeting", int(protocol), *_] if protocol != PROTOCOL:
                return protocol
    except (TransportError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return None


def decode_from_actor(frame: bytes) -> FromActor:
    """Return the message. Raises TransportError when it is none."""
    try:
        return _from_actor.decode(_body(frame))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransportError(f"not a message of an actor: {error}") from None


def decode_from_learner(frame: bytes) -> FromLearner:
    """Return the message. Raises TransportError when it is none."""
    try:
        return _from_learner.decode(_body(frame))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransportError(f"not a message of a learner: {error}") from None


def _body(frame: bytes) -> bytes:
    if not _CHECKSUM.size < len(frame) <= MAX_HEAD_BYTES:
        raise TransportError(f"a message of {len(frame)} bytes; at most {MAX_HEAD_BYTES} are allowed")
    body = frame[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(frame) != (zlib.crc32(body),):
        raise TransportError("a message whose CRC-32 does not match: it was damaged on its way, or is none")
    return body
