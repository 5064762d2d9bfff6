"""Transitions and weights as bytes: a msgpack header that declares every array, then the raw arrays.

The same record crosses the wire, waits in the actor's spool and stands in the learner's journal::

    magic (4 bytes) | length of the header (u32) | CRC-32 of all that follows (u32) | header | arrays

Little-endian. The CRC-32 of weights is of their header, which has a SHA-256 of the arrays: 20 MB need one check.
Decoding is strict: dtypes come from an allow-list, sizes are checked against the bytes at hand before an array is made,
numbers must be finite. Whatever is wrong with a record, the only error is a `TransportError` that says what. Decoded
arrays are read-only views into the record.
"""

import hashlib
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from serl_core.errors import TransportError
from serl_core.transport.interface import Params, PolicyWeights
from serl_core.types import EndReason, Observation, Provenance, Transition

MAX_TRANSITION_BYTES = 8 * 2**20  # SAFETY 2.2 rule 7
MAX_WEIGHTS_BYTES = 32 * 2**20
MAX_DEPTH = 16  # of a tree of parameters
SESSION = re.compile(r"\A[0-9A-Za-z_-]{1,64}\Z")  # becomes part of file names

MAX_DIMENSION = 2**25

_PICTURES = {"images": (np.uint8, (3,)), "features": (np.float16, (3, 4)), "frames": (np.uint8, (1,))}  # dims

_DTYPES = {name: np.dtype(name) for name in ("<f4", "<f2", "|u1")}
_F16_MAGNITUDE, _F16_INFINITY = 0x7FFF, 0x7C00  # bits

_PREFIX = struct.Struct("<4sII")
TRANSITION_MAGIC = b"SRT1"
_WEIGHTS_MAGIC = b"SRW2"

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Dimension = Annotated[int, msgspec.Meta(ge=0, le=MAX_DIMENSION)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Array = NDArray[Any]
_H = TypeVar("_H", bound=msgspec.Struct)


class DamagedRecord(TransportError):
    """The bytes are not those that were sent or written: another copy of them may be whole."""


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One array of the record."""

    name: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=MAX_DEPTH)]
    dtype: Literal["<f4", "<f2", "|u1"]
    shape: Annotated[tuple[_Dimension, ...], msgspec.Meta(max_length=6)]


class _TransitionHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    session: Annotated[str, msgspec.Meta(pattern=SESSION.pattern)]
    sequence: _Count
    episode: _Count
    policy_version: _Count
    stamp_s: float
    reward: float
    discount: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    is_intervention: bool
    end: EndReason
    parts: Annotated[list[_Part], msgspec.Meta(max_length=64)]


class _WeightsHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1)]
    env_steps: _Count
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    is_finite: bool
    parts: Annotated[list[_Part], msgspec.Meta(max_length=4096)]


class _Decoded(Transition):
    """A transition that knows the record it came in."""

    record: bytes | None = None  # None also in what `_replace` makes: that is another transition


_encoder = msgspec.msgpack.Encoder()
_transition_decoder = msgspec.msgpack.Decoder(_TransitionHeader)
_weights_decoder = msgspec.msgpack.Decoder(_WeightsHeader)


def encode_transition(transition: Transition, *, is_checked: bool = True) -> bytes:
    """Return the record of one transition, which must have a provenance: of a decoded one, that which it came in.

    Args:
        transition: what to encode.
        is_checked: False also encodes numbers that are not finite, for a quarantine.

    Raises:
        TransportError: a number is not finite, a dtype or session is not allowed, or it is too large.
    """
    if isinstance(transition, _Decoded) and transition.record is not None:
        return transition.record
    provenance = transition.provenance
    if provenance is None:
        raise TransportError("a batch of transitions has no provenance: only single ones can be sent")
    if not SESSION.match(provenance.session):
        raise TransportError(f"session {provenance.session!r}: allowed are 1 to 64 letters, digits, '-' and '_'")
    where = f"transition {provenance.sequence} of session {provenance.session}"
    arrays = dict(_observation_arrays("observation", transition.observation))
    arrays["action",] = transition.action
    arrays.update(_observation_arrays("next_observation", transition.next_observation))
    reward, discount = float(transition.reward), float(transition.discount)
    if is_checked:
        _check_numbers(where, (reward, discount, provenance.stamp_s), arrays)
    header = _TransitionHeader(
        session=provenance.session,
        sequence=provenance.sequence,
        episode=provenance.episode,
        policy_version=provenance.policy_version,
        stamp_s=provenance.stamp_s,
        reward=reward,
        discount=discount,
        is_intervention=bool(transition.is_intervention),
        end=EndReason(int(transition.end)),
        parts=_describe(where, arrays),
    )
    return bytes(_pack(TRANSITION_MAGIC, header, list(arrays.values()), MAX_TRANSITION_BYTES, where))


def decode_transition(record: bytes | memoryview) -> Transition:
    """Return the transition of a record. Raises TransportError, and nothing else, when it is not one."""
    header, payload = _unpack(TRANSITION_MAGIC, record, _transition_decoder, MAX_TRANSITION_BYTES)
    where = f"transition {header.sequence} of session {header.session}"
    arrays = _arrays(header.parts, payload)
    scalars = (header.reward, header.discount, header.stamp_s)
    _check_numbers(where, scalars, {} if _is_finite_payload(header.parts, payload) else arrays)
    observation, next_observation = (_observation(name, arrays) for name in ("observation", "next_observation"))
    action = _vector("action", arrays.pop(("action",), None))
    if arrays:
        raise TransportError(f"{where} has unknown arrays {sorted('/'.join(name) for name in arrays)}")
    provenance = Provenance(header.session, header.sequence, header.episode, header.policy_version, header.stamp_s)
    decoded = _Decoded(
        observation=observation,
        action=action,
        reward=header.reward,
        discount=header.discount,
        next_observation=next_observation,
        is_intervention=header.is_intervention,
        end=header.end,
        provenance=provenance,
    )
    if isinstance(record, bytes):  # else it may change
        decoded.record = record
    return decoded


def is_whole(record: bytes) -> bool:
    """Return whether these are the bytes of a record that was written as a transition; its arrays are not looked at."""
    try:
        _unpack(TRANSITION_MAGIC, record, _transition_decoder, MAX_TRANSITION_BYTES)
    except DamagedRecord:
        return False
    except TransportError:  # of another make, as its writer meant it
        return True
    return True


def encode_weights(weights: PolicyWeights) -> memoryview:
    """Return the record of policy weights: a copy of every leaf, with a SHA-256 over all of them.

    Raises:
        TransportError: a number is not finite (such weights are never published), a dtype is not
            float32, float16 or uint8, or the tree is too large.
    """
    where = f"weights of version {weights.version}"
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(weights.params)}
    _check_numbers(where, (), arrays)
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(_bytes_of(array).data)
    header = _WeightsHeader(
        version=weights.version,
        env_steps=weights.env_steps,
        sha256=digest.digest(),
        is_finite=True,
        parts=_describe(where, arrays),
    )
    return _pack(_WEIGHTS_MAGIC, header, list(arrays.values()), MAX_WEIGHTS_BYTES, where)


def decode_weights(record: bytes | memoryview) -> PolicyWeights:
    """Return the weights of a record, checked against their hash. Raises only TransportError."""
    header, payload = _unpack(_WEIGHTS_MAGIC, record, _weights_decoder, MAX_WEIGHTS_BYTES)
    where = f"weights of version {header.version}"
    if hashlib.sha256(payload).digest() != header.sha256:
        raise DamagedRecord(f"{where} do not match their SHA-256")
    arrays = _arrays(header.parts, payload)
    if not header.is_finite:
        raise TransportError(f"{where} are marked as not finite")
    _check_numbers(where, (), arrays)
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        branch = tree
        for key in name[:-1]:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise TransportError(f"{where}: {'/'.join(name)} lies below an array")
        if name[-1] in branch:
            raise TransportError(f"{where}: {'/'.join(name)} is both an array and a branch")
        branch[name[-1]] = array
    return PolicyWeights(header.version, tree, header.env_steps)


def _observation_arrays(prefix: str, observation: Observation) -> Iterator[tuple[tuple[str, ...], _Array]]:
    yield (prefix, "proprio"), observation.proprio
    for name, image in observation.images.items():
        yield (prefix, "images", name), image
    for name, feature in observation.features.items():
        yield (prefix, "features", name), feature
    for name, frame in observation.frames.items():
        yield (prefix, "frames", name), frame


def _observation(prefix: str, arrays: dict[tuple[str, ...], _Array]) -> Observation:
    proprio = _vector(f"{prefix}/proprio", arrays.pop((prefix, "proprio"), None))
    groups: dict[str, dict[str, _Array]] = {kind: {} for kind in _PICTURES}
    for name in [name for name in arrays if len(name) == 3 and name[0] == prefix and name[1] in _PICTURES]:
        kind, array = name[1], arrays.pop(name)
        dtype, dims = _PICTURES[kind]
        if array.dtype != dtype or array.ndim not in dims or (kind == "images" and array.shape[2] != 3):
            raise TransportError(f"{'/'.join(name)} is {array.dtype}{list(array.shape)}, not one of the {kind}")
        groups[kind][name[2]] = array
    return Observation(proprio, groups["images"], groups["features"], groups["frames"])


def _vector(name: str, array: _Array | None) -> NDArray[np.float32]:
    if array is None:
        raise TransportError(f"a transition without {name}")
    if array.dtype != np.float32 or array.ndim != 1:
        raise TransportError(f"{name} is {array.dtype}{list(array.shape)}, not a float32 vector")
    return array


def _leaves(tree: Params, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], _Array]]:
    if len(path) >= MAX_DEPTH:
        raise TransportError(f"parameters are nested deeper than {MAX_DEPTH}: {'/'.join(path)}")
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _check_numbers(where: str, scalars: Sequence[float], arrays: Mapping[tuple[str, ...], _Array]) -> None:
    if not all(map(math.isfinite, scalars)):
        raise TransportError(f"{where}: reward, discount and stamp must be finite, got {scalars}")
    for name, array in arrays.items():
        if not _is_finite(array):
            raise TransportError(f"{where}: {'/'.join(name)} holds a number that is not finite")


def _is_finite(array: _Array) -> bool:
    if array.dtype == np.float16 and array.size:  # by its bits: six times as fast
        return int(np.maximum.reduce(array.view(np.uint16).ravel() & _F16_MAGNITUDE)) < _F16_INFINITY
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _is_finite_payload(parts: Sequence[_Part], payload: memoryview) -> bool:
    """Look at neighbours of the same dtype together: NumPy offers other threads the interpreter at each look."""
    start = end = 0
    for part, after in zip_longest(parts, parts[1:]):
        end += _size(part)
        if after is not None and after.dtype == part.dtype:
            continue
        if part.dtype != "|u1" and not _is_finite(np.frombuffer(payload[start:end], _DTYPES[part.dtype])):
            return False
        start = end
    return True


def _size(part: _Part) -> int:
    return math.prod(part.shape) * int(part.dtype[2])


def _describe(where: str, arrays: Mapping[tuple[str, ...], _Array]) -> list[_Part]:
    for name, array in arrays.items():
        if array.dtype.str not in _DTYPES:
            raise TransportError(f"{where}: {'/'.join(name)} is {array.dtype}; allowed are float32, float16 and uint8")
    return [_Part(name, array.dtype.str, array.shape) for name, array in arrays.items()]  # type: ignore[arg-type]


def _pack(magic: bytes, header: msgspec.Struct, arrays: list[_Array], limit: int, where: str) -> memoryview:
    head = _encoder.encode(header)
    start = _PREFIX.size + len(head)
    size = start + sum(array.nbytes for array in arrays)
    if size > limit:
        raise TransportError(f"{where} takes {size} bytes; at most {limit} are allowed")
    record = np.empty(size, np.uint8)  # NumPy lets other threads run while it copies; 20 MB take a while
    record[_PREFIX.size : start] = np.frombuffer(head, np.uint8)
    for array in arrays:
        record[start : start + array.nbytes] = _bytes_of(array)
        start += array.nbytes
    covered = _covered(magic, record.data[_PREFIX.size :], len(head))
    _PREFIX.pack_into(record.data, 0, magic, len(head), zlib.crc32(covered))
    return record.data.toreadonly()


def _covered(magic: bytes, body: memoryview, header_length: int) -> memoryview:
    """Return what the CRC-32 is of."""
    return body[:header_length] if magic == _WEIGHTS_MAGIC else body


def _bytes_of(array: _Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _unpack(
    magic: bytes, record: bytes | memoryview, decoder: "msgspec.msgpack.Decoder[_H]", limit: int
) -> tuple[_H, memoryview]:
    if not _PREFIX.size <= len(record) <= limit:
        raise DamagedRecord(f"a record of {len(record)} bytes; allowed are {_PREFIX.size} to {limit}")
    found, header_length, checksum = _PREFIX.unpack_from(record)
    if found != magic:
        raise DamagedRecord(f"a record that starts with {found!r}, not {magic!r}: of another version, or garbage")
    body = memoryview(record)[_PREFIX.size :]
    if zlib.crc32(_covered(magic, body, header_length)) != checksum:
        raise DamagedRecord("a record whose CRC-32 does not match: it was damaged on its way or on disk")
    if header_length > len(body):  # no checksum covers this number
        raise DamagedRecord(f"a header of {header_length} bytes in a record of {len(body)}")
    try:
        header = decoder.decode(body[:header_length])
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise TransportError(f"a record with a malformed header: {error}") from None
    except msgspec.DecodeError as error:  # it ends too early or too late: so its length is not the one written
        raise DamagedRecord(f"a record with a header of the wrong length: {error}") from None
    return header, body[header_length:]


def _arrays(parts: Sequence[_Part], payload: memoryview) -> dict[tuple[str, ...], _Array]:
    sizes = [_size(part) for part in parts]
    if sum(sizes) != len(payload):
        raise TransportError(f"a record declares {sum(sizes)} bytes of arrays and holds {len(payload)}")
    arrays: dict[tuple[str, ...], _Array] = {}
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        try:
            arrays[part.name] = np.ndarray(part.shape, _DTYPES[part.dtype], payload, start)
        except ValueError as error:  # an empty one whose other sides are absurd
            raise TransportError(f"{'/'.join(part.name)} cannot have the shape {part.shape}: {error}") from None
        start += size
    if len(arrays) != len(parts):
        raise TransportError("a record names an array twice")
    return arrays
