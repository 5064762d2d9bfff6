"""What the actor and the operator's console say to each other: JSON, told apart by `kind`, decoded strictly.

The actor listens on loopback and writes an `OperatorAddress` into ``<run>/<actor id>.operator``. A console begins
with `OperatorHello` and may repeat it at any time: an actor that does not know the connection yet takes nothing else.
Units: m, rad, s, N, Nm, unless a name says otherwise.
"""

from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serl_core.errors import TransportError

MAX_MESSAGE_BYTES = 64 * 1024
MAX_JPEG_BYTES = 45 * 1024  # what fits into a message as base64
ADDRESS_SUFFIX = ".operator"

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Fraction = Annotated[float, Meta(ge=-1.0, le=1.0)]
Twist = tuple[Fraction, Fraction, Fraction, Fraction, Fraction, Fraction]


class Control(Enum):
    """Who or what has control of the arm."""

    POLICY = "policy"
    HUMAN = "human"
    RESET = "reset"
    PAUSED = "paused"
    STOPPED = "stopped"  # a software stop is latched
    FAULT = "fault"  # a reflex or a fault is latched
    WAITING = "waiting"  # for weights, pictures, room in the spool, or a person


class OperatorAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line in the actor's file."""

    address: str  # such as tcp://127.0.0.1:40123
    token: str  # 64 hex digits
    robot: str | None = None  # URL of the robot server that the actor commands; None: nobody has said
    server: str | None = None  # which start of it, as in `Health`


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all: immutable, closed."""


# --- from the console


class OperatorHello(_Message, frozen=True, kw_only=True, tag="operator_hello"):
    """The first message of a connection."""

    token: Annotated[str, Meta(max_length=256)]


class TeleopInput(_Message, frozen=True, kw_only=True, tag="teleop_input"):
    """What a person at the controls wants; 20 to 50 a second while they are there."""

    operator: Name
    sequence: Count  # rises per operator and connection of a console; older ones are ignored
    age_ms: Annotated[float, Meta(ge=0.0, le=1e9)]  # from the person's input until the console sent this
    sent_s: Annotated[float, Meta(ge=0.0)]  # when it did, by the monotonic clock of the machine that both run on
    twist: Twist  # tool frame; of the task's action scale
    gripper: Fraction | None = None  # -1 closed, 1 open; None: as it is
    engaged: bool
    hands_back: bool = False


class Label(_Message, frozen=True, kw_only=True, tag="label"):
    """Ends the running episode at the present step; `discard` keeps it out of demonstrations.

    With `session` and `episode` it counts for that episode only, and not for one that has begun meanwhile.
    """

    operator: Name
    label: Literal["success", "failure", "discard"]
    session: Name | None = None
    episode: Count | None = None


class Veto(_Message, frozen=True, kw_only=True, tag="veto"):
    """The classifier's success that ended this episode was none; counts within 1 s of its StepReport."""

    operator: Name
    session: Name
    episode: Count


class Pause(_Message, frozen=True, kw_only=True, tag="pause"):
    """The arm holds and no step is taken; the running episode is abandoned."""

    operator: Name


class Resume(_Message, frozen=True, kw_only=True, tag="resume"):
    """Ends a pause; a new episode begins."""

    operator: Name


class Recover(_Message, frozen=True, kw_only=True, tag="recover"):
    """Clears the robot's latched fault, if that is still `cause`."""

    operator: Name
    cause: Annotated[str, Meta(min_length=1, max_length=1000)]


class ResumeRobot(_Message, frozen=True, kw_only=True, tag="resume_robot"):
    """Clears the robot's latched stop."""

    operator: Name


class PictureRequest(_Message, frozen=True, kw_only=True, tag="picture_request"):
    """Asks for the newest picture of a camera at the actor; answered by a Picture, 10 times a second at most."""

    name: Name
    side: Annotated[int, Meta(ge=16, le=1024)] = 320  # the longer one, at most, in pixels


# --- from the actor


class StepReport(_Message, frozen=True, kw_only=True, tag="step_report"):
    """One control step; also at each change of control, and about once a second while no step is taken."""

    session: str
    episode: int  # -1 before the first
    step: int  # of the episode, from 1; 0 before the first
    stamp_s: float  # the robot's clock
    control: Control
    end: str  # an EndReason's name in small letters
    reward: float
    action: tuple[float, ...]  # empty where no step was taken
    is_intervention: bool
    operator: str | None  # who steers from a browser
    success_probability: float | None
    success_threshold: float | None
    policy_version: int
    policy_age_s: float | None  # since these weights were taken up; None without a learner
    loop_hz: float
    late_ticks: int
    camera_age_s: dict[str, float]
    tcp_pose: tuple[float, float, float, float, float, float, float]
    tcp_wrench: tuple[float, float, float, float, float, float]
    may_veto: bool = False  # this step ended by the classifier's success; Veto counts for 1 s


class OperatorNotice(_Message, frozen=True, kw_only=True, tag="operator_notice"):
    """A sentence for all operators, or for the one whom it concerns."""

    level: Literal["info", "warning", "error"]
    text: Text
    operator: Name | None = None  # None: for all


class RecordProgress(_Message, frozen=True, kw_only=True, tag="record_progress"):
    """How far a recording is: demonstrations, or the classifier's frames with success and, beside them, without."""

    what: Literal["demonstrations", "classifier"]
    kept: int
    wanted: int
    failed: int = 0  # not kept
    negatives: int = 0  # frames without success
    negatives_wanted: int = 0


class Picture(_Message, frozen=True, kw_only=True, tag="picture"):
    """The newest picture of a camera at the actor."""

    name: str
    stamp_s: float  # this machine's monotonic clock when it was captured
    jpeg: bytes  # base64 in the text


ToActor = OperatorHello | TeleopInput | Label | Veto | Pause | Resume | Recover | ResumeRobot | PictureRequest
FromActor = StepReport | OperatorNotice | RecordProgress | Picture

_from_console: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ToActor)
_from_actor: msgspec.json.Decoder[Any] = msgspec.json.Decoder(FromActor)


def encode(message: ToActor | FromActor) -> bytes:
    """Return the bytes of a message.

    Raises:
        TransportError: it is larger than `MAX_MESSAGE_BYTES`.
    """
    frame = msgspec.json.encode(message)
    if len(frame) > MAX_MESSAGE_BYTES:
        raise TransportError(
            f"{type(message).__name__}: has {len(frame)} bytes, at most {MAX_MESSAGE_BYTES} are allowed; send less"
        )
    return frame


def decode_from_console(frame: bytes) -> ToActor:
    """Return the message. Raises TransportError when it is none, or too large."""
    message: ToActor = _decode(_from_console, frame, "a console")
    return message


def decode_from_actor(frame: bytes) -> FromActor:
    """Return the message. Raises TransportError when it is none, or too large."""
    message: FromActor = _decode(_from_actor, frame, "an actor")
    return message


def _decode(decoder: msgspec.json.Decoder[Any], frame: bytes, sender: str) -> Any:
    if len(frame) > MAX_MESSAGE_BYTES:
        raise TransportError(f"not a message of {sender}: {len(frame)} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransportError(f"not a message of {sender}: {error}") from None
