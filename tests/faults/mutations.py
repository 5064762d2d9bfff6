"""What a broken or hostile program may send to a learner: mutations of what a right one sends, without end."""

import random
import struct
import zlib
from collections.abc import Iterator

from serl_core.testing.episodes import PIXEL_SPEC, make_episode
from serl_core.transport import wire
from serl_core.transport.codec import _covered, encode_transition

SESSION = "wrong"
_PREFIX = struct.Struct("<4sII")  # of the codec's records
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF)


def mutated_frames(source: random.Random, digest: str) -> Iterator[list[bytes]]:
    """Yield messages without the name of their connection, of which nearly none is one of a right actor."""
    records = [encode_transition(step) for step in make_episode(session=SESSION, steps=4)]
    records += [
        encode_transition(step) for step in make_episode(PIXEL_SPEC, session=SESSION, steps=2, frames=["wrist"])
    ]
    heads = [
        wire.encode(wire.Greeting(wire.PROTOCOL, "wrong", SESSION, digest)),
        wire.encode(wire.Offer(SESSION, 0, -1, 0)),
        wire.encode(wire.Pull(3, 0, 0)),
        wire.encode(wire.Leaving()),
        wire.encode(wire.Status(0, 0, 0, 0, False, SESSION, 0, "", "")),
    ]
    while True:
        frames = [source.choice(heads), *source.choices(records, k=source.randrange(3))]
        for _ in range(source.randint(1, 3)):
            frames = _mutated(frames, source)
        yield frames


def mutated_record(record: bytes, source: random.Random, *, is_repaired: bool) -> bytes:
    """Return a record with some bytes changed; with its checksum right again if `is_repaired`, so that more is read."""
    changed = _changed(record, source)
    if not is_repaired or len(changed) < _PREFIX.size:
        return changed
    magic, length, _ = _PREFIX.unpack_from(changed)
    magic = record[:4] if source.random() < 0.9 else magic
    length = min(length, 2 * len(changed))
    body = memoryview(changed)[_PREFIX.size :]
    return _PREFIX.pack(magic, length, zlib.crc32(_covered(magic, body, length))) + body


def mutated_message(frame: bytes, source: random.Random, *, is_repaired: bool) -> bytes:
    """Return a message of `wire` likewise."""
    body = _changed(frame[4:], source)
    return struct.pack("<I", zlib.crc32(body)) + body if is_repaired else _changed(frame, source)


def _mutated(frames: list[bytes], source: random.Random) -> list[bytes]:
    way, place = source.randrange(6), source.randrange(len(frames))
    if way == 0:
        return frames[:place] + frames[place + 1 :] or [b""]
    if way == 1:
        return [*frames, source.randbytes(source.randrange(60))]
    if way == 2:
        return frames[::-1]
    change = mutated_message if place == 0 else mutated_record
    return [*frames[:place], change(frames[place], source, is_repaired=source.random() < 0.5), *frames[place + 1 :]]


def _changed(data: bytes, source: random.Random) -> bytes:
    way = source.randrange(5)
    if way == 0:
        return data[: source.randrange(len(data) + 1)]
    if way == 1:
        start = source.randrange(len(data) + 1)
        return data[:start] + source.randbytes(source.randrange(1, 9)) + data[start:]
    if way == 2:
        start = source.randrange(len(data) + 1)
        return data[:start] + data[start + source.randrange(1, 9) :]
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        if changed:
            place = source.randrange(min(len(changed), 250)) if way == 3 else source.randrange(len(changed))
            changed[place] = source.choice(NUMBERS) if source.random() < 0.5 else source.randrange(256)
    return bytes(changed)
