import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serl_core.errors import TransportError
from serl_core.testing.episodes import PIXEL_SPEC, assert_same_transitions, make_episode
from serl_core.transport.codec import (
    MAX_TRANSITION_BYTES,
    DamagedRecord,
    decode_transition,
    decode_weights,
    encode_transition,
    encode_weights,
    is_whole,
)
from serl_core.transport.interface import PolicyWeights
from serl_core.types import EndReason, Observation, Provenance

STEP = make_episode(PIXEL_SPEC, steps=1, end=EndReason.SUCCESS, interventions=[0])[0]
RECORD = encode_transition(STEP)
WEIGHTS = PolicyWeights(3, {"layer": {"kernel": np.ones((4, 3), np.float32)}, "scale": np.float32(2.0)}, 40)
WEIGHTS_RECORD = bytes(encode_weights(WEIGHTS))

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
names = st.text("abcdefghij_-", min_size=1, max_size=8)
images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))
features = hnp.arrays(
    np.float16,
    hnp.array_shapes(min_dims=3, max_dims=4, max_side=3),  # four dims: copies first
    elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
)
frames = hnp.arrays(np.uint8, st.integers(0, 50))
observations = st.builds(
    Observation,
    proprio=hnp.arrays(np.float32, st.integers(1, 9), elements=finite32),
    images=st.dictionaries(names, images, max_size=2),
    features=st.dictionaries(names, features, max_size=2),
    frames=st.dictionaries(names, frames, max_size=2),
)
leaves = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), elements=finite32)
trees = st.recursive(
    st.dictionaries(st.text(min_size=1, max_size=5), leaves, max_size=3),
    lambda children: st.dictionaries(st.text(min_size=1, max_size=5), leaves | children, max_size=3),
    max_leaves=6,
)


def decodes_or_refuses(decode, record):
    try:
        decode(record)
    except TransportError:
        return False
    return True


@given(
    observation=observations,
    next_observation=observations,
    action=hnp.arrays(np.float32, st.integers(1, 9), elements=finite32),
    reward=st.floats(allow_nan=False, allow_infinity=False),
    discount=st.floats(0, 1),
    is_intervention=st.booleans(),
    end=st.sampled_from(EndReason),
    sequence=st.integers(0, 2**62),
)
def test_a_transition_comes_back_bit_for_bit(
    observation, next_observation, action, reward, discount, is_intervention, end, sequence
):
    step = STEP._replace(
        observation=observation,
        next_observation=next_observation,
        action=action,
        reward=reward,
        discount=discount,
        is_intervention=is_intervention,
        end=end,
        provenance=Provenance("a-session", sequence, 3, 7, 1.5),
    )
    assert_same_transitions([decode_transition(encode_transition(step))], [step])


@settings(max_examples=50)
@given(trees)
def test_weights_come_back_bit_for_bit(params):
    found = decode_weights(encode_weights(PolicyWeights(1, params, 0))).params
    assert flat(found) == flat(params)


def flat(tree, path=()):
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, (*path, key))
        else:
            found[(*path, key)] = (value.dtype, value.shape, value.tobytes())
    return found


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_reason(garbage):
    for decode, prefix in ((decode_transition, RECORD[:4]), (decode_weights, WEIGHTS_RECORD[:4])):
        assert not decodes_or_refuses(decode, garbage)
        assert not decodes_or_refuses(decode, prefix + garbage)


@pytest.mark.parametrize(
    ("decode", "record"), [(decode_transition, RECORD), (decode_weights, WEIGHTS_RECORD)], ids=["step", "weights"]
)
@given(data=st.data())
def test_a_flipped_bit_is_always_damage_and_never_another_record(decode, record, data):
    place = data.draw(st.one_of(st.integers(0, 8 * 12 - 1), st.integers(0, 8 * len(record) - 1)))
    damaged = bytearray(record)
    damaged[place // 8] ^= 1 << place % 8
    with pytest.raises(DamagedRecord):
        decode(bytes(damaged))
    assert not is_whole(bytes(damaged))


@pytest.mark.parametrize("place", range(32))
def test_a_flipped_bit_in_the_length_of_the_header_is_damage(place):
    """The checksum does not cover the length: it is told by where the header ends."""
    length = struct.unpack_from("<I", RECORD, 4)[0] ^ 1 << place
    damaged = RECORD[:4] + struct.pack("<I", length) + RECORD[8:]
    with pytest.raises(DamagedRecord, match="header"):
        decode_transition(damaged)
    assert not is_whole(damaged)
    assert is_whole(RECORD)


@pytest.mark.parametrize(
    ("decode", "record"), [(decode_transition, RECORD), (decode_weights, WEIGHTS_RECORD)], ids=["step", "weights"]
)
def test_a_record_cut_or_extended_anywhere_is_refused(decode, record):
    assert decodes_or_refuses(decode, record)
    assert not any(decodes_or_refuses(decode, record[:length]) for length in range(len(record)))
    assert not decodes_or_refuses(decode, record + b"\0")


@settings(max_examples=300)
@given(data=st.data())
def test_a_header_of_nonsense_under_a_valid_checksum_is_refused(data):
    """The checksum tells accidents, not malice: every declared size and name is checked as well."""
    body = bytearray(RECORD[12:])
    header_length = struct.unpack_from("<I", RECORD, 4)[0]
    for place in data.draw(st.lists(st.integers(0, header_length - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    header_length = data.draw(st.sampled_from([header_length, 0, 2**32 - 1, header_length - 1]))
    decodes_or_refuses(
        decode_transition, RECORD[:4] + struct.pack("<II", header_length, zlib.crc32(bytes(body))) + bytes(body)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"reward": float("nan")},
        {"discount": float("inf")},
        {"action": np.array([np.nan, 0], np.float32)},
        {"observation": Observation(np.array([np.inf], np.float32))},
        {"next_observation": Observation(np.zeros(1, np.float32), {}, {"a": np.full((1, 1, 1), np.nan, np.float16)})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_number_that_is_not_finite_is_not_sent(change):
    with pytest.raises(TransportError, match="finite"):
        encode_transition(STEP._replace(**change))


@pytest.mark.parametrize("place", [0, 7, 63])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
def test_features_are_finite_to_the_last_and_may_be_as_large_as_they_can(place, number):
    features = np.full((1, 8, 8), -np.finfo(np.float16).max, np.float16)
    step = STEP._replace(observation=STEP.observation._replace(features={"a": features}))
    assert decode_transition(encode_transition(step)).observation.features["a"].tobytes() == features.tobytes()
    features.reshape(-1)[place] = number
    with pytest.raises(TransportError, match="observation/features/a holds a number that is not finite"):
        encode_transition(step)


def test_float64_is_refused_by_name():
    with pytest.raises(TransportError, match="action is float64; allowed are float32"):
        encode_transition(STEP._replace(action=np.zeros(2)))


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("images", np.zeros((4, 4, 1), np.uint8)),
        ("images", np.zeros((2, 4, 4, 3), np.uint8)),
        ("features", np.zeros((2, 2, 8), np.float32)),
        ("features", np.zeros((1, 2, 2, 2, 8), np.float16)),
        ("frames", np.zeros((5, 5), np.uint8)),
        ("frames", np.zeros(5, np.float16)),
    ],
)
def test_an_array_that_is_not_of_its_kind_is_refused_by_name(kind, array):
    """Whoever sent it holds the checksum too: the decoder must not leave it to the buffers."""
    record = encode_transition(
        STEP._replace(next_observation=Observation(STEP.observation.proprio)._replace(**{kind: {"wrist": array}}))
    )
    with pytest.raises(TransportError, match=rf"next_observation/{kind}/wrist is .* not one of the {kind}"):
        decode_transition(record)


def test_a_session_that_could_leave_its_folder_is_refused():
    with pytest.raises(TransportError, match="allowed are 1 to 64 letters"):
        encode_transition(STEP._replace(provenance=Provenance("../etc", 0, 0, 0, 0.0)))


def test_a_transition_beyond_the_limit_is_refused():
    images = {"wrist": np.zeros((2000, 2000, 3), np.uint8)}
    with pytest.raises(TransportError, match=f"at most {MAX_TRANSITION_BYTES}"):
        encode_transition(STEP._replace(observation=STEP.observation._replace(images=images)))


def test_weights_that_are_not_finite_are_never_published():
    with pytest.raises(TransportError, match="layer/kernel holds a number that is not finite"):
        encode_weights(WEIGHTS._replace(params={"layer": {"kernel": np.array([np.nan], np.float32)}}))


def test_decoded_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        decode_transition(RECORD).action[0] = 1.0


def test_what_was_decoded_is_encoded_as_it_came_and_what_is_made_of_it_anew():
    decoded = decode_transition(RECORD)
    assert encode_transition(decoded) is RECORD
    changed = encode_transition(decoded._replace(reward=0.5))
    assert decode_transition(changed).reward == 0.5
    assert encode_transition(decoded._replace()) == RECORD
    passing = bytearray(RECORD)  # a record that may change is not kept
    kept = decode_transition(memoryview(passing))
    passing[: len(RECORD) // 2] = bytes(len(RECORD) // 2)
    assert encode_transition(kept)[:4] == RECORD[:4]
