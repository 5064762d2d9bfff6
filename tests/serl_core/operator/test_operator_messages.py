import typing

import msgspec
import pytest

from serl_core.errors import TransportError
from serl_core.operator.messages import (
    MAX_JPEG_BYTES,
    MAX_MESSAGE_BYTES,
    Control,
    FromActor,
    Label,
    OperatorHello,
    OperatorNotice,
    Pause,
    Picture,
    PictureRequest,
    RecordProgress,
    Recover,
    Resume,
    ResumeRobot,
    StepReport,
    TeleopInput,
    ToActor,
    Veto,
    decode_from_actor,
    decode_from_console,
    encode,
)

TWIST = (0.1, -0.2, 0.3, 0.0, 1.0, -1.0)
FROM_CONSOLE = [
    OperatorHello(token="ab"),
    TeleopInput(operator="o", sequence=3, age_ms=1.5, sent_s=12.5, twist=TWIST, engaged=True),
    Label(operator="o", label="success", session="s", episode=2),
    Veto(operator="o", session="s", episode=2),
    Pause(operator="o"),
    Resume(operator="o"),
    Recover(operator="o", cause="reflex"),
    ResumeRobot(operator="o"),
    PictureRequest(name="wrist", side=128),
]
REPORT = StepReport(
    session="s",
    episode=0,
    step=1,
    stamp_s=0.1,
    control=Control.HUMAN,
    end="running",
    reward=0.0,
    action=(0.5,) * 7,
    is_intervention=True,
    operator="o",
    success_probability=None,
    success_threshold=None,
    policy_version=1,
    policy_age_s=0.2,
    loop_hz=10.0,
    late_ticks=0,
    camera_age_s={"wrist": 0.02},
    tcp_pose=(0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0),
    tcp_wrench=(0.0,) * 6,
)
FROM_ACTOR = [
    REPORT,
    OperatorNotice(level="warning", text="ä is steering"),
    RecordProgress(what="demonstrations", kept=3, wanted=20),
    Picture(name="wrist", stamp_s=1.0, jpeg=b"\xff\xd8\x00"),
]


@pytest.mark.parametrize("message", FROM_CONSOLE, ids=lambda message: type(message).__name__)
def test_what_a_console_says_arrives_as_it_was(message):
    assert decode_from_console(encode(message)) == message


@pytest.mark.parametrize("message", FROM_ACTOR, ids=lambda message: type(message).__name__)
def test_what_an_actor_says_arrives_as_it_was(message):
    assert decode_from_actor(encode(message)) == message


def test_every_kind_of_message_is_among_those_above():
    assert {type(message) for message in FROM_CONSOLE} == set(typing.get_args(ToActor))
    assert {type(message) for message in FROM_ACTOR} == set(typing.get_args(FromActor))


@pytest.mark.parametrize(
    "changes",
    [
        {"twist": (1.01, 0, 0, 0, 0, 0)},
        {"twist": (0.0,) * 5},
        {"gripper": -1.5},
        {"age_ms": -1.0},
        {"sent_s": -1.0},
        {"sequence": -1},
        {"operator": ""},
        {"operator": "x" * 65},
        {"engaged": 1},
        {"more": 1},
    ],
    ids=str,
)
def test_a_command_outside_its_limits_is_refused(changes):
    fields = msgspec.to_builtins(FROM_CONSOLE[1]) | changes
    with pytest.raises(TransportError, match="not a message of a console"):
        decode_from_console(msgspec.json.encode(fields))


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b'{"kind":"none"}', b"\xff", b"[" * 20_000])
def test_what_is_no_message_is_refused(frame):
    with pytest.raises(TransportError):
        decode_from_console(frame)
    with pytest.raises(TransportError):
        decode_from_actor(frame)


def test_neither_side_takes_the_others_messages():
    with pytest.raises(TransportError):
        decode_from_console(encode(REPORT))
    with pytest.raises(TransportError):
        decode_from_actor(encode(Pause(operator="o")))


def test_a_message_that_is_too_large_is_neither_sent_nor_read():
    with pytest.raises(TransportError, match=r"Picture: has \d+ bytes, at most 65536"):
        encode(Picture(name="wrist", stamp_s=0.0, jpeg=bytes(MAX_MESSAGE_BYTES)))
    with pytest.raises(TransportError, match="at most 65536"):
        decode_from_actor(b" " * (MAX_MESSAGE_BYTES + 1))


def test_the_largest_picture_fits_into_a_message():
    name = "n" * 64
    assert decode_from_actor(encode(Picture(name=name, stamp_s=1e9, jpeg=bytes(MAX_JPEG_BYTES)))).name == name
