"""Strict decoding, for every message: what comes back is what was sent, and nothing else passes."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serl_core.errors import RobotError, RobotFault
from serl_core.robots import messages
from serl_core.robots.messages import Message, PoseCommand, Problem, StreamCommand, decode, encode
from serl_core.robots.problems import error_of

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSES = st.tuples(*[NUMBERS] * 7)
KINDS = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)]


@given(st.integers(0, 2**53), st.integers(0, 2**53), POSES, NUMBERS, st.none() | NUMBERS)
def test_a_message_survives_the_wire_to_the_bit(epoch, sequence, pose, reply_after_s, gripper):
    command = StreamCommand(epoch=epoch, sequence=sequence, pose=pose, reply_after_s=reply_after_s, gripper=gripper)
    assert decode(encode(command), StreamCommand) == command


@given(st.integers(0, 6), st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "true", '"3"', "null", "[1]"]))
def test_nothing_but_a_finite_number_is_a_number(index, bad):
    numbers = [bad if i == index else "0.5" for i in range(7)]
    with pytest.raises(msgspec.DecodeError):
        decode(f'{{"epoch": 1, "pose": [{", ".join(numbers)}]}}', PoseCommand)


@pytest.mark.parametrize("length", [0, 6, 8])
def test_a_pose_has_seven_numbers(length):
    with pytest.raises(msgspec.ValidationError, match="length 7"):
        decode(f'{{"epoch": 1, "pose": {[0.5] * length}}}', PoseCommand)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_refuses_unknown_keys_and_other_shapes(kind):
    for body in ('{"surely_unknown": 1}', "[]", "null", "3", '"text"'):
        with pytest.raises(msgspec.ValidationError):
            decode(body, kind)


def test_a_number_that_overflows_names_its_place():
    with pytest.raises(msgspec.ValidationError, match=r"pose\[2\]"):
        decode('{"epoch": 1, "pose": [0, 0, 1e309, 0, 0, 0, 1]}', PoseCommand)


def test_a_message_made_in_this_process_with_nan_cannot_be_read_back():
    command = PoseCommand(epoch=1, pose=(math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    with pytest.raises(msgspec.DecodeError):
        decode(encode(command), PoseCommand)


@pytest.mark.parametrize(("status", "kind"), [(422, RobotError), (409, RobotError), (423, RobotFault)])
def test_a_latched_arm_is_a_fault_and_all_else_an_error(status, kind):
    error = error_of(Problem(type="t", title="t", status=status, detail="why", field="pose[1]"))
    assert type(error) is kind
    assert (str(error), error.status, error.field) == ("why", status, "pose[1]")
