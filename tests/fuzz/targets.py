"""What is fuzzed: the decoders of bytes that come over a line or from a disk, and right inputs to begin with.

With the checksums `off`, because damage that one of them tells gets no further, and a liar computes them anew.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from serl_core.data import episode_file, journal
from serl_core.errors import DataError, TransportError
from serl_core.testing.episodes import PIXEL_SPEC, make_episode
from serl_core.transport import codec, wire
from serl_core.transport.interface import PolicyWeights

DECODERS = (
    codec.decode_transition,
    codec.decode_weights,
    wire.decode_from_actor,
    wire.decode_from_learner,
    wire.foreign_protocol,
)
DTYPES = ("<f8", "<f4", "<f2", "<i8", "<i4", "|i1", "|u1", "<u8", "|b1")
SHAPES = ((), (0,), (3,), (4,), (3, 1), (3, 0), (4, 3), (2, 2, 2), (10**12, 0))
STEPS = (0, 1, 2, 4, -1, 10**12)


class Target(NamedTuple):
    """A decoder; what it raises but `refusals` is a find."""

    decode: Callable[[bytes], object]
    refusals: type[Exception]
    seeds: list[bytes]


@contextmanager
def checksums_off() -> Iterator[None]:
    """Let every checksum be that of everything, for writers and readers."""
    crc32 = SimpleNamespace(crc32=lambda *_: 0)
    sha256 = SimpleNamespace(sha256=lambda *_: SimpleNamespace(update=lambda _: None, digest=lambda: bytes(32)))
    with (
        patch.object(codec, "zlib", crc32),
        patch.object(wire, "zlib", crc32),
        patch.object(episode_file, "zlib", crc32),
        patch.object(journal, "zlib", crc32),
        patch.object(codec, "hashlib", sha256),
    ):
        yield


def records() -> list[bytes]:
    """Return transitions as they travel."""
    steps = make_episode(steps=2) + make_episode(PIXEL_SPEC, steps=2, frames=["wrist"])
    return [codec.encode_transition(step) for step in steps]


def weights() -> list[bytes]:
    """Return weights as they travel."""
    layer = {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(0, np.float32)}
    return [bytes(codec.encode_weights(PolicyWeights(1, {"layer": layer, "scale": np.ones(2, "f4")}, 5)))]


def messages() -> list[bytes]:
    """Return one message of each kind between actor and learner."""
    return [
        wire.encode(message)
        for message in (
            wire.Greeting(wire.PROTOCOL, "actor", "session", "cafe"),
            wire.Offer("session", 0, -1, 0),
            wire.Pull(3, 4, 100),
            wire.Leaving(),
            wire.Status(0, 0, 0, 0, False, "session", 0, "", "learner"),
            wire.Weights(4, 1000, 100),
            wire.Refusal("no"),
        )
    ]


def of_the_line(_: Path) -> Target:
    """Return the decoders of records and messages; the first byte says which."""

    def decode(data: bytes) -> object:
        return DECODERS[data[0] % len(DECODERS)](data[1:]) if data else None

    seeds = [b"\0" + record for record in records()] + [b"\1" + record for record in weights()]
    seeds += [bytes([way]) + message for way in (2, 3, 4) for message in messages()]
    return Target(decode, TransportError, seeds)


def of_episode_files(folder: Path) -> Target:
    """Return the readers of an episode's file: of its header, and of its arrays."""
    path = folder / "fuzzed.safetensors"

    def decode(data: bytes) -> object:
        path.write_bytes(data)
        episode_file.load_header(path)
        return episode_file.load_steps(path)

    seeds = []
    for episode in (make_episode(steps=3), make_episode(PIXEL_SPEC, steps=2, frames=["wrist"])):
        episode_file.save_episode(path, episode, task_digest="d")
        seeds.append(path.read_bytes())
    return Target(decode, DataError, seeds)


def of_episode_arrays(folder: Path) -> Target:
    """Return the reader of an episode's file in which four bytes each put another array in the place of one.

    A change of a file's bytes seldom gets past safetensors; this gets past it always.
    """
    path = folder / "fuzzed.safetensors"
    episode_file.save_episode(path, make_episode(PIXEL_SPEC, steps=3, frames=["wrist"]), task_digest="d")
    arrays, text = load_file(path), read_metadata(path)
    names = sorted(arrays)

    def decode(data: bytes) -> object:
        changed, steps = dict(arrays), 3
        for name, dtype, shape, fill in zip(data[::4], data[1::4], data[2::4], data[3::4], strict=False):
            if name % (len(names) + 1) == len(names):
                steps = STEPS[fill % len(STEPS)]
            elif dtype == 255:
                changed.pop(names[name % (len(names) + 1)], None)
            else:
                array = np.full(SHAPES[shape % len(SHAPES)], fill).astype(DTYPES[dtype % len(DTYPES)])
                changed[names[name % (len(names) + 1)]] = array
        header = text.replace('"steps":3', f'"steps":{steps}')
        path.write_bytes(save(changed, {"episode": header, "crc32": "00000000"}))
        return episode_file.load_steps(path)

    return Target(decode, DataError, [bytes([name, 0, 2, 1]) for name in range(len(names) + 1)])


def read_metadata(path: Path) -> str:
    """Return what a file says about its episode, as it stands there."""
    with safe_open(path, framework="numpy") as file:
        text: str = file.metadata()["episode"]
    return text


def of_journals(folder: Path) -> Target:
    """Return the reader of a journal: of an episode that was under way when its learner ended."""
    path = folder / "fuzzed.journal"

    def decode(data: bytes) -> object:
        path.write_bytes(data)
        return journal.read_journal(path)

    crc32 = journal.zlib.crc32  # off, or on
    entries = [
        journal._ENTRY.pack(len(record), crc32(record, crc32(at.to_bytes(8, "little"))), at) + record
        for at, record in enumerate(records()[:2])
    ]
    return Target(decode, DataError, [b"".join(entries), entries[0], entries[0] + entries[1][:-9]])


TARGETS = {
    "line": of_the_line,
    "episode-files": of_episode_files,
    "episode-arrays": of_episode_arrays,
    "journals": of_journals,
}
