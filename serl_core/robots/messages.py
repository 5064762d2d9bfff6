"""The messages between a robot server and its clients: JSON over HTTP and WebSocket, decoded strictly.

One definition serves both sides. `decode` refuses NaN, infinities, booleans or strings for numbers,
wrong lengths and unknown keys. Units: m, rad, s, N, Nm. Poses are x y z qx qy qz qw in the robot's
base frame; a twist or wrench is linear then angular, expressed in the base frame at the tool centre
point. The wrench is what the world exerts on the robot.
"""

import json
import math
from enum import Enum
from typing import Annotated, Any, TypeVar

import msgspec

API_VERSION = "1.0"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # what every JSON library and computer can hold
MIN_PIXELS, MAX_PIXELS = 16, 1024  # of a picture's side
SHAPE_HEADER = "Serl-Shape"  # of a picture: height, width and channels, as in "128,128,3"
STAMP_HEADER = "Serl-Stamp-S"  # the robot's clock when it was taken

Vector3 = tuple[float, float, float]
Vector6 = tuple[float, float, float, float, float, float]
Vector7 = tuple[float, float, float, float, float, float, float]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all messages: immutable, by keyword, closed."""


class Mode(Enum):
    """What the arm is doing."""

    HOLD = "hold"  # compliant at its set-point: no controller, or the last command is too old
    TRACKING = "tracking"  # following the targets of the lease holder, or pushing with its wrench
    MOVING = "moving"  # on a server-side move or joint reset
    STOPPED = "stopped"  # latched by /v1/stop; only /v1/resume ends it
    FAULT = "fault"  # latched by a reflex or a fault; only /v1/recover ends it


class SimTruth(Message, frozen=True):
    """What only a simulator knows."""

    is_success: bool
    object_pose: Vector7  # of the manipulated object, base frame
    target_pose: Vector7  # where the object must go, base frame


class RobotState(Message, frozen=True):
    """One consistent reading of the arm. `reference_pose` is the set-point after slew and filter."""

    stamp_s: float  # the robot's clock (simulated time in simulation)
    tcp_pose: Vector7
    tcp_twist: Vector6
    tcp_wrench: Vector6
    q: Vector7
    dq: Vector7
    jacobian: tuple[Vector7, Vector7, Vector7, Vector7, Vector7, Vector7]  # base frame, at the TCP
    gripper: float  # 0 closed .. 1 open
    mode: Mode
    reference_pose: Vector7
    fault: str | None = None  # the latched cause in STOPPED and FAULT
    lease_epoch: Count = 0  # fencing number of the current lease; 0 when nobody holds it
    gripper_fault: str | None = None  # why the gripper no longer obeys, while the arm goes on
    pose_epoch: Count = 0  # rises whenever a lease runs out: the arm was left where nobody looked
    is_stale: bool = False  # older than 100 ms: the backend has gone quiet
    truth: SimTruth | None = None  # simulated backend only
    unsafe_thresholds: bool = False  # the arm's own reflexes come later than recommended (SAFETY 1.2)
    api_version: str = API_VERSION


class ImpedanceParams(Message, frozen=True):
    """The Cartesian impedance of the arm (REFERENCE section 4). Clips are (x-, x+, y-, y+, z-, z+).

    The server refuses values outside its envelope: see `robot_servers.impedance_limits.check_impedance`.
    """

    translational_stiffness_n_m: float = 2000.0
    translational_damping_ns_m: float = 89.0
    rotational_stiffness_nm_rad: float = 150.0  # acts on the half angle, as HIL-SERL's
    rotational_damping_nms_rad: float = 7.0
    translational_clip_m: Vector6 = (0.008, 0.008, 0.008, 0.008, 0.008, 0.008)
    rotational_clip_rad: Vector6 = (0.05, 0.05, 0.05, 0.05, 0.05, 0.05)
    nullspace_stiffness_nm_rad: float = 10.0
    translational_ki: float = 0.0
    rotational_ki: float = 0.0


class LeaseRequest(Message, frozen=True):
    """Acquire (no epoch), renew or release (with the epoch) the right to command the arm.

    After a holder that died, who acquires must have read the state since: `pose_epoch` is the state's then.
    """

    action: str  # "acquire" | "renew" | "release"
    owner: str
    epoch: Count | None = None
    pose_epoch: Count | None = None


class Lease(Message, frozen=True):
    """Who commands the arm. Every command carries `epoch`; an old one is refused."""

    owner: str
    epoch: Count
    timeout_s: float


class StreamCommand(Message, frozen=True):
    """One control step over WS /v1/stream: a target, answered by one `RobotState`.

    The reply comes `reply_after_s` later on the robot's clock: in real time the server waits, in
    lockstep it advances the simulation by that much. So the state is always fresh at the tick.
    """

    epoch: Count
    sequence: Count  # rises with every command of a lease; a lower or equal one is refused
    pose: Vector7
    reply_after_s: float
    gripper: float | None = None  # 0 closed .. 1 open; None leaves it alone
    sent_s: float | None = None  # the client's monotonic clock; one that was on its way for too long is refused


class PoseCommand(Message, frozen=True):
    """POST /v1/pose: a new target for the impedance controller; returns at once."""

    epoch: Count
    pose: Vector7
    sequence: Count | None = None  # as in the stream, whose count it shares
    sent_s: float | None = None  # as in the stream


class MoveCommand(Message, frozen=True):
    """POST /v1/move: a server-side minimum-jerk move in Cartesian space, within the speed limits."""

    epoch: Count
    pose: Vector7
    speed_m_s: float = 0.15
    speed_rad_s: float = 0.6


class JointResetCommand(Message, frozen=True):
    """POST /v1/joint_reset: a slow joint-space move to the configured rest posture."""

    epoch: Count


class GripperCommand(Message, frozen=True):
    """POST /v1/gripper."""

    epoch: Count
    position: float  # 0 closed .. 1 open
    speed_m_s: float = 0.05
    force_n: float = 20.0


class ImpedanceCommand(Message, frozen=True):
    """POST /v1/impedance: gains ramp to `params` (time constant at least 0.1 s)."""

    epoch: Count
    params: ImpedanceParams


class LoadCommand(Message, frozen=True):
    """POST /v1/load: mass in kg, centre in the flange frame in m, inertia in kg m^2, row by row."""

    epoch: Count
    mass_kg: float
    center_m: Vector3
    inertia_kg_m2: tuple[float, float, float, float, float, float, float, float, float]


class WrenchCommand(Message, frozen=True):
    """POST /v1/wrench: a feed-forward wrench in the end-effector frame (dynamic tasks).

    It is what the tool pushes with, on top of the impedance, until 0.1 s of robot time after the newest command.
    """

    epoch: Count
    wrench: Vector6
    sequence: Count | None = None  # as in the stream, whose count it shares
    sent_s: float | None = None  # as in the stream


class EpochCommand(Message, frozen=True):
    """A command with no other argument than its lease."""

    epoch: Count


class RecoverCommand(Message, frozen=True):
    """POST /v1/recover: clear the latched fault `cause`, which must be the present one; without one, the gripper's."""

    epoch: Count
    cause: str


JOINT_LIMIT = "joint_limit"  # a move's cause: a joint near its end would be driven further in


class Job(Message, frozen=True):
    """A move or reset under way: poll GET /v1/jobs/{id}."""

    id: Count
    kind: str
    state: str  # "running" | "succeeded" | "failed" | "cancelled"
    detail: str = ""
    cause: str = ""  # of a failure that has another way round: JOINT_LIMIT


class SimResetCommand(Message, frozen=True):
    """POST /v1/sim/reset: put the simulated arm at a pose at once, re-seeding the scene."""

    epoch: Count
    seed: Count | None = None  # None goes on with the scene's own random stream
    pose: Vector7 | None = None  # None: the scene's start pose


class SimAdvanceCommand(Message, frozen=True):
    """POST /v1/sim/advance: move a lockstep simulation on."""

    epoch: Count
    duration_s: float


class Health(Message, frozen=True):
    """GET /v1/health: needs no token."""

    backend: str
    clock: str  # "real_time" | "lockstep"
    is_simulated: bool
    scene: str | None = None
    stop_port: Count | None = None  # where a stop has a socket of its own; None: it has none
    server: str | None = None  # tells this start of the server from others; its stop's socket says the same
    api_version: str = API_VERSION


class Stopped(Message, frozen=True):
    """The answer of the stop's own socket: the stop is latched, and the arm holds from its next control tick."""

    cause: str
    server: str  # as in `Health`


class PictureFormat(Enum):
    """How a picture travels."""

    RAW = "raw"  # height x width x 3 bytes, RGB, row by row from the top
    JPEG = "jpeg"
    PNG = "png"


class CameraQuery(Message, frozen=True):
    """The query of GET /v1/cameras/{name}."""

    height: Count = 128  # in pixels, MIN_PIXELS to MAX_PIXELS
    width: Count = 128
    format: PictureFormat = PictureFormat.RAW


class CameraNames(Message, frozen=True):
    """GET /v1/cameras: the cameras at the robot."""

    names: tuple[str, ...]


class Problem(Message, frozen=True, omit_defaults=True):
    """The body of every refusal (application/problem+json, FAULTS section 1.1)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    given: Any = None
    limit: Any = None
    request_id: str | None = None


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return the JSON of a message."""
    return msgspec.json.encode(message)


def decode(body: bytes | str, kind: type[M]) -> M:
    """Return the message in `body`.

    Raises:
        msgspec.ValidationError: a wrong type, length, name, or a number that is not finite.
        msgspec.DecodeError: not JSON.
    """
    try:
        message = msgspec.json.decode(body, type=kind, strict=True)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        field = _first_constant(body)
        if field is None:
            raise
        raise msgspec.ValidationError(f"Expected a finite number - at `$.{field}`") from None
    field = _first_not_finite(message)
    if field is not None:
        raise msgspec.ValidationError(f"Expected a finite number - at `$.{field}`")
    return message


def _first_constant(body: bytes | str) -> str | None:
    """Return where a body that would else be JSON says NaN or Infinity, which JSON has not."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _first_not_finite(value)


def _first_not_finite(value: object, path: str = "") -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            found = _first_not_finite(item, f"{path}[{i}]")
            if found is not None:
                return found
    elif isinstance(value, (msgspec.Struct, dict)):
        for name, item in value.items() if isinstance(value, dict) else _fields(value):
            found = _first_not_finite(item, f"{path}.{name}" if path else str(name))
            if found is not None:
                return found
    return None


def _fields(value: msgspec.Struct) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in value.__struct_fields__]
