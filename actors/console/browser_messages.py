"""What a browser says to the console: JSON text, one object a message, told apart by its `kind`, decoded strictly."""

from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TEXT_BYTES = 64 * 1024

Milliseconds = Annotated[float, Meta(ge=0.0, le=1e13)]
Count = Annotated[int, Meta(ge=0, le=2**53)]  # what JavaScript counts exactly
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Token = Annotated[str, Meta(max_length=256)]
Deflection = Annotated[float, Meta(ge=-1.0, le=1.0)]
Twist = tuple[Deflection, Deflection, Deflection, Deflection, Deflection, Deflection]


class Frame(Enum):
    """The axes in which a person steers."""

    TOOL = "tool"
    BASE = "base"
    CAMERA = "camera"  # x to the right in the picture, y down, z into it


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all: immutable, closed."""


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """The first message: the token of the link, and who is there."""

    token: Token
    operator: Name = "operator"


class Teleop(_Message, frozen=True, kw_only=True, tag="teleop"):
    """One command of the person at the controls; 20 to 50 a second."""

    sequence: Count
    sent_ms: Milliseconds  # performance.now() of the page
    twist: Twist
    frame: Frame = Frame.TOOL
    camera: Name | None = None  # of Frame.CAMERA: whose picture; None: the first whose mounting is known
    gripper: Deflection | None = None
    engaged: bool
    hands_back: bool = False


class Ping(_Message, frozen=True, kw_only=True, tag="ping"):
    """Asks for a Pong; `rtt_ms` is what the last one took to and fro, if the page knows it."""

    sent_ms: Milliseconds
    rtt_ms: Milliseconds | None = None


class Label(_Message, frozen=True, kw_only=True, tag="label"):
    """Ends the running episode; the one that is named, if one is."""

    label: Literal["success", "failure", "discard"]
    session: Name | None = None
    episode: Count | None = None


class Veto(_Message, frozen=True, kw_only=True, tag="veto"):
    """The success that ended the episode was none."""

    session: Name
    episode: Count


class Pause(_Message, frozen=True, kw_only=True, tag="pause"):
    """The arm holds and no step is taken."""


class Resume(_Message, frozen=True, kw_only=True, tag="resume"):
    """Goes on after a pause."""


class Stop(_Message, frozen=True, kw_only=True, tag="stop"):
    """Latches the robot's software stop."""


class ResumeRobot(_Message, frozen=True, kw_only=True, tag="resume_robot"):
    """Clears the latched stop."""


class Recover(_Message, frozen=True, kw_only=True, tag="recover"):
    """Clears the latched fault `cause`."""

    cause: Annotated[str, Meta(min_length=1, max_length=200)]


class Relabel(_Message, frozen=True, kw_only=True, tag="relabel"):
    """Corrects how a past episode ended."""

    session: Name
    episode: Count
    label: Literal["success", "failure"]


class Undo(_Message, frozen=True, kw_only=True, tag="undo"):
    """Takes the last correction back that is not taken back yet; of one episode, if it is named."""

    session: Name | None = None
    episode: Count | None = None


class Record(_Message, frozen=True, kw_only=True, tag="record"):
    """Starts or ends a recording by the person at the page."""

    what: Literal["demonstrations", "classifier"]
    count: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    stop: bool = False


class Set(_Message, frozen=True, kw_only=True, tag="set"):
    """Changes one of the console's settings, for all browsers."""

    name: Name
    value: float


FromBrowser = (
    Hello | Teleop | Ping | Label | Veto | Pause | Resume | Stop | ResumeRobot | Recover | Relabel | Undo | Record | Set
)

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(FromBrowser)


def decode(text: str) -> FromBrowser:
    """Return the message in `text`.

    Raises:
        msgspec.DecodeError: not JSON, or not one of the messages; a wrong type, value, name or length.
    """
    message: FromBrowser = _decoder.decode(text)
    return message
