"""What the safety kernel allows, and the checks of every value a client sends (SAFETY.md 1.3 and 1.4).

The limits come from a file on the robot's own computer, never over the network. A value outside is
refused, never silently clipped: the client must know that the arm will not do what it asked.
"""

import math
from pathlib import Path
from typing import Any

import msgspec

from serl_core.errors import ConfigError
from serl_core.robots.messages import (
    GripperCommand,
    LoadCommand,
    Message,
    Problem,
    Vector3,
    Vector6,
    Vector7,
    decode,
)

QUATERNION_NORM_TOLERANCE = 1e-2
MAX_CONFIGURABLE_SPEED_M_S = 0.5  # even the local file may not ask for more
MAX_AUTOMATIC_RECOVERIES = 3  # in 10 minutes
LARGEST_WRENCH_N = 50.0  # per axis, on top of the impedance, as much as its spring

# Beyond these the arm's own reflexes come late (SAFETY 1.2). The wrist's are franka_ros' defaults: above the 11 Nm to
# which a profile may raise a lower one.
LARGEST_COLLISION_TORQUE_NM: Vector7 = (40.0, 40.0, 40.0, 40.0, 16.0, 14.0, 12.0)
LARGEST_COLLISION_FORCE_N: Vector6 = (50.0, 50.0, 50.0, 25.0, 25.0, 25.0)

LARGEST_INERTIA_KG_M2 = 10.0  # of a payload; far beyond any that the arm can carry


class Refusal(Exception):
    """A command that was not carried out: nothing moved, and no watchdog was fed."""

    def __init__(
        self, status: int, kind: str, detail: str, *, field: str | None = None, given: Any = None, limit: Any = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.field = field
        self.given = given
        self.limit = limit

    def problem(self) -> Problem:
        """Return the message that tells the client."""
        return Problem(
            type=f"urn:serl:{self.kind}",
            title=self.kind.replace("_", " "),
            status=self.status,
            detail=self.detail,
            field=self.field,
            given=None if isinstance(self.given, float) and not math.isfinite(self.given) else self.given,
            limit=self.limit,
        )


class SafetyLimits(Message, frozen=True):
    """Every limit of the kernel, with the defaults of SAFETY.md."""

    box_low_m: Vector3 = (0.1, -0.4, -0.05)  # Polymetis' default workspace
    box_high_m: Vector3 = (1.0, 0.4, 1.0)
    box_exit_m: float = 0.02  # measured this far outside: latch
    soft_wall_m: float = 0.05  # Polymetis: inside each side of the box the measured pose is pushed back
    soft_wall_n_m: float = 200.0  # 0 switches it off, as a width of 0 does
    max_tilt_rad: float = 0.8  # of the tool's z axis from straight down
    step_m: float = 0.10  # from the measured pose to a new target
    step_rad: float = 0.5
    speed_m_s: float = 0.25
    speed_rad_s: float = 1.0
    acceleration_m_s2: float = 2.0
    acceleration_rad_s2: float = 8.0
    command_timeout_s: float = 0.3
    lease_timeout_s: float = 2.0
    state_timeout_s: float = 0.1
    backend_timeout_s: float = 1.0  # without a control tick: latch
    joint_reset_timeout_s: float = 30.0
    commands_per_s: float = 100.0
    command_age_s: float = 0.2  # so much longer than others on its way: refused
    max_reply_after_s: float = 1.0
    stiffness_n_m: tuple[float, float] = (50.0, 3000.0)
    stiffness_nm_rad: tuple[float, float] = (1.0, 300.0)
    damping_ratio: tuple[float, float] = (0.7, 1.5)
    clip_m: tuple[float, float] = (0.0005, 0.02)
    clip_rad: tuple[float, float] = (0.005, 0.1)
    nullspace_stiffness_nm_rad: tuple[float, float] = (0.0, 100.0)
    integral_gain: tuple[float, float] = (0.0, 5.0)
    spring_force_n: float = 50.0  # what a contact feels of stiffness * clip, of x, y and z together
    spring_torque_nm: float = 25.0
    load_kg: float = 3.0
    load_center_m: float = 0.3
    gripper_speed_m_s: float = 0.1
    gripper_force_n: float = 60.0
    wrench_force_n: float = 20.0  # feed-forward, per axis
    wrench_torque_nm: float = 5.0
    wrench_timeout_s: float = 0.1
    # The arm stops itself above these (a reflex): joints 1 to 7; N along, then Nm about the axes at its tool. The
    # defaults are franka_ros'.
    collision_torque_nm: Vector7 = (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    collision_force_n: Vector6 = (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)
    automatic_recoveries: int = 0  # from reflexes without anybody's request, in 10 minutes; at most 3
    unsafe_thresholds: bool = False  # allows collision thresholds of any height

    def __post_init__(self) -> None:
        for axis, low, high in zip("xyz", self.box_low_m, self.box_high_m, strict=True):
            if not low < high:
                raise ValueError(f"box {axis}: low must be below high, got {low} m and {high} m")
        _require("box_exit_m", self.box_exit_m, 0.0, 0.1)
        _require("soft_wall_m", self.soft_wall_m, 0.0, 0.2)
        _require("soft_wall_n_m", self.soft_wall_n_m, 0.0, 1000.0)
        wall_n = self.soft_wall_n_m * (self.soft_wall_m + self.box_exit_m)
        _require("soft_wall_n_m * (soft_wall_m + box_exit_m)", wall_n, 0.0, LARGEST_WRENCH_N)
        _require("speed_m_s", self.speed_m_s, 0.01, MAX_CONFIGURABLE_SPEED_M_S)
        _require("speed_rad_s", self.speed_rad_s, 0.01, 2.5)
        _require("acceleration_m_s2", self.acceleration_m_s2, 0.1, 13.0)
        _require("acceleration_rad_s2", self.acceleration_rad_s2, 0.1, 25.0)
        _require("command_timeout_s", self.command_timeout_s, 0.1, 1.0)
        _require("lease_timeout_s", self.lease_timeout_s, 0.5, 10.0)
        _require("command_age_s", self.command_age_s, 0.02, 1.0)
        _require("automatic_recoveries", self.automatic_recoveries, 0, MAX_AUTOMATIC_RECOVERIES)
        _require("wrench_force_n", self.wrench_force_n, 0.0, LARGEST_WRENCH_N)
        _require("wrench_torque_nm", self.wrench_torque_nm, 0.0, 25.0)
        _require("wrench_timeout_s", self.wrench_timeout_s, 0.01, 0.5)
        self._check_thresholds("collision_torque_nm", self.collision_torque_nm, LARGEST_COLLISION_TORQUE_NM)
        self._check_thresholds("collision_force_n", self.collision_force_n, LARGEST_COLLISION_FORCE_N)

    def _check_thresholds(self, name: str, values: tuple[float, ...], largest: tuple[float, ...]) -> None:
        for i, (value, limit) in enumerate(zip(values, largest, strict=True)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name}[{i}] must be above 0 and finite, got {value:g}")
            if value > limit and not self.unsafe_thresholds:
                raise ValueError(f"{name}[{i}] must be at most {limit:g} without unsafe_thresholds, got {value:g}")


def load_limits(path: Path | None) -> SafetyLimits:
    """Return the limits in a JSON file; the defaults when `path` is None.

    Raises:
        ConfigError: the file is missing, has an unknown name, or a value that is not allowed.
    """
    if path is None:
        return SafetyLimits()
    try:
        return decode(path.read_bytes(), SafetyLimits)
    except OSError as error:
        raise ConfigError(
            f"limits file {path}: {error.strerror}; give one such as docker/limits.json, or none for the defaults"
        ) from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"limits file {path}: {error}") from None


def check_finite(field: str, values: tuple[float, ...], length: int) -> None:
    """Refuse a vector of another length, or with a number that is not finite."""
    if len(values) != length:
        raise Refusal(422, "value", f"{field} needs {length} numbers", field=field, given=len(values), limit=length)
    for i, value in enumerate(values):
        if not math.isfinite(value):
            raise Refusal(422, "value", f"{field}[{i}] must be finite, got {value}", field=f"{field}[{i}]")


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside `low` to `high`, or NaN."""
    if not low <= value <= high:
        detail = f"{field} must be {low:g} to {high:g}, got {value:g}"
        raise Refusal(422, "value", detail, field=field, given=value, limit=[low, high])


def check_pose(pose: Vector7, limits: SafetyLimits, field: str = "pose") -> Vector7:
    """Return `pose` with its quaternion normalised.

    Raises:
        Refusal: not 7 finite numbers, no unit quaternion, outside the box, or tilted too far.
    """
    check_finite(field, pose, 7)
    for i, axis in enumerate("xyz"):
        low, high = limits.box_low_m[i], limits.box_high_m[i]
        if not low <= pose[i] <= high:
            raise Refusal(
                422,
                "outside_box",
                f"{axis} = {pose[i]:.4f} m is outside the workspace, {low:g} to {high:g} m",
                field=f"{field}[{i}]",
                given=pose[i],
                limit=[low, high],
            )
    x, y, z, w = pose[3:]
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if abs(norm - 1.0) > QUATERNION_NORM_TOLERANCE:
        detail = f"the quaternion's norm must be 1 within {QUATERNION_NORM_TOLERANCE:g}, got {norm:.4f}"
        raise Refusal(422, "value", detail, field=f"{field}[3]", given=norm, limit=1.0)
    unit: Vector7 = (*pose[:3], x / norm, y / norm, z / norm, w / norm)
    check_tilt(unit, limits, field)
    return unit


def check_tilt(pose: Vector7, limits: SafetyLimits, field: str = "pose") -> None:
    """Refuse an orientation whose tool axis leaves the cone about straight down."""
    x, y = pose[3:5]
    tilt = math.acos(max(-1.0, min(1.0, 2.0 * (x * x + y * y) - 1.0)))
    if tilt > limits.max_tilt_rad:
        detail = f"the tool is tilted {tilt:.3f} rad from straight down, allowed is {limits.max_tilt_rad:g} rad"
        raise Refusal(422, "tilt", detail, field=f"{field}[3]", given=tilt, limit=limits.max_tilt_rad)


def check_step(pose: Vector7, measured: Vector7, limits: SafetyLimits) -> None:
    """Refuse a target too far from where the arm is."""
    distance = math.dist(pose[:3], measured[:3])
    if distance > limits.step_m:
        detail = f"the target is {distance:.4f} m from the arm, allowed is {limits.step_m:g} m; use /v1/move"
        raise Refusal(422, "step", detail, field="pose", given=distance, limit=limits.step_m)
    angle = angle_between(pose, measured)
    if angle > limits.step_rad:
        detail = f"the target is turned {angle:.4f} rad from the arm, allowed is {limits.step_rad:g} rad; use /v1/move"
        raise Refusal(422, "step", detail, field="pose[3]", given=angle, limit=limits.step_rad)


def check_gripper(command: GripperCommand, limits: SafetyLimits) -> None:
    """Refuse a gripper command outside its range."""
    check_range("position", command.position, 0.0, 1.0)
    check_range("speed_m_s", command.speed_m_s, 0.001, limits.gripper_speed_m_s)
    check_range("force_n", command.force_n, 0.0, limits.gripper_force_n)


def check_wrench(wrench: Vector6, limits: SafetyLimits) -> None:
    """Refuse a feed-forward wrench with an axis beyond its limit."""
    check_finite("wrench", wrench, 6)
    for i, value in enumerate(wrench):
        limit = limits.wrench_force_n if i < 3 else limits.wrench_torque_nm
        check_range(f"wrench[{i}]", value, -limit, limit)


def check_load(command: LoadCommand, limits: SafetyLimits) -> None:
    """Refuse a payload outside the arm's rating, or an inertia no body can have."""
    check_range("mass_kg", command.mass_kg, 0.0, limits.load_kg)
    check_finite("center_m", command.center_m, 3)
    check_range("center_m", math.hypot(*command.center_m), 0.0, limits.load_center_m)
    check_finite("inertia_kg_m2", command.inertia_kg_m2, 9)
    for index, value in enumerate(command.inertia_kg_m2):
        check_range(f"inertia_kg_m2[{index}]", value, -LARGEST_INERTIA_KG_M2, LARGEST_INERTIA_KG_M2)
    a, b, c, d, e, f, g, h, i = command.inertia_kg_m2
    is_symmetric = max(abs(b - d), abs(c - g), abs(f - h)) < 1e-9
    minors = (
        a, e, i, a * e - b * d, a * i - c * g, e * i - f * h,
        a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g),
    )  # fmt: skip
    if not is_symmetric or min(minors) < -1e-12:
        detail = "the inertia must be symmetric and positive semidefinite"
        raise Refusal(422, "value", detail, field="inertia_kg_m2", given=list(command.inertia_kg_m2))


def angle_between(a: Vector7, b: Vector7) -> float:
    """Return the angle between the orientations of two poses, the short way, in rad."""
    cosine = abs(sum(x * y for x, y in zip(a[3:], b[3:], strict=True)))
    return 2.0 * math.acos(min(1.0, cosine))


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, got {value:g}")
