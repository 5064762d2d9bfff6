"""Which gains of the impedance the safety kernel allows, and those that an arm starts with (SAFETY.md 1.3)."""

import math

import msgspec

from robot_servers.limits import Refusal, SafetyLimits, check_finite, check_range
from serl_core.errors import ConfigError
from serl_core.robots.messages import ImpedanceParams, Vector3, Vector6

# Damping is judged against the critical damping of a typical effective inertia at the tool.
EFFECTIVE_MASS_KG = 1.0
EFFECTIVE_INERTIA_KG_M2 = 0.1

# Of `spring_force_n`, for the spring of x, y and z together. A contact feels some 2 N more than the spring, and an arm
# that slides off a part under more than that is too fast before the torque, by 0.5 Nm in each tick, has changed.
SPRING_SHARE = 0.9

ROUNDING = 1e-9  # of a product: what was brought to a limit is at it


def check_impedance(params: ImpedanceParams, limits: SafetyLimits) -> None:
    """Refuse gains outside the envelope of SAFETY 1.3: also the spring's force of all axes, and its free speed."""
    p = params
    for name, value, (low, high) in (
        ("translational_stiffness_n_m", p.translational_stiffness_n_m, limits.stiffness_n_m),
        ("rotational_stiffness_nm_rad", p.rotational_stiffness_nm_rad, limits.stiffness_nm_rad),
        ("nullspace_stiffness_nm_rad", p.nullspace_stiffness_nm_rad, limits.nullspace_stiffness_nm_rad),
        ("translational_ki", p.translational_ki, limits.integral_gain),
        ("rotational_ki", p.rotational_ki, limits.integral_gain),
    ):
        check_range(f"params.{name}", value, low, high)
    for name, damping, stiffness, inertia in (
        ("translational_damping_ns_m", p.translational_damping_ns_m, p.translational_stiffness_n_m, EFFECTIVE_MASS_KG),
        (
            "rotational_damping_nms_rad",
            p.rotational_damping_nms_rad,
            p.rotational_stiffness_nm_rad,
            EFFECTIVE_INERTIA_KG_M2,
        ),
    ):
        critical = 2.0 * math.sqrt(stiffness * inertia)
        low, high = (round(ratio * critical, 3) for ratio in limits.damping_ratio)
        check_range(f"params.{name}", damping, low, high)
    for name, clips, (low, high) in (
        ("translational_clip_m", p.translational_clip_m, limits.clip_m),
        ("rotational_clip_rad", p.rotational_clip_rad, limits.clip_rad),
    ):
        check_finite(f"params.{name}", clips, 6)
        for i, clip in enumerate(clips):
            check_range(f"params.{name}[{i}]", clip, low, high)
    force = p.translational_stiffness_n_m * math.hypot(*widest_clips(p.translational_clip_m))
    what = "stiffness * the widest clips of x, y and z together"
    _check_product("translational_clip_m", what, force, spring_together_n(limits), "N")
    for i, clip in enumerate(p.translational_clip_m):
        speed = p.translational_stiffness_n_m * clip / p.translational_damping_ns_m
        _check_product(f"translational_clip_m[{i}]", "stiffness * clip / damping", speed, limits.speed_m_s, "m/s")
    for i, clip in enumerate(p.rotational_clip_rad):
        torque = p.rotational_stiffness_nm_rad * clip
        _check_product(f"rotational_clip_rad[{i}]", "stiffness * clip", torque, limits.spring_torque_nm, "Nm")


def spring_together_n(limits: SafetyLimits) -> float:
    """Return the most that stiffness * clip of x, y and z may be together."""
    return SPRING_SHARE * limits.spring_force_n


def widest_clips(clips: Vector6) -> Vector3:
    """Return the larger clip of each axis, of those towards - and towards +."""
    return (max(clips[:2]), max(clips[2:4]), max(clips[4:]))


def common_cap(sizes: Vector3, most: float) -> float:
    """Return the largest size that each of three may have so that together, as a vector, they have at most `most`.

    The smaller ones stay as they are and leave more for the others; infinite where all may stay.
    """
    left = most * most
    for others, size in zip((3, 2, 1), sorted(sizes), strict=True):
        share = math.sqrt(left / others)
        if size > share * (1.0 + ROUNDING):
            return share
        left -= size * size
    return math.inf


def initial_impedance(limits: SafetyLimits) -> ImpedanceParams:
    """Return the default gains, made softer where `limits` are tighter; the damping ratio stays.

    Raises:
        ConfigError: no gains as soft as that are allowed either.
    """
    default = ImpedanceParams()
    stiffness = min(default.translational_stiffness_n_m, limits.stiffness_n_m[1])
    turning = min(default.rotational_stiffness_nm_rad, limits.stiffness_nm_rad[1])
    damping = default.translational_damping_ns_m * math.sqrt(stiffness / default.translational_stiffness_n_m)
    reach_m = min(
        limits.clip_m[1],
        limits.speed_m_s * damping / stiffness,
        common_cap(widest_clips(default.translational_clip_m), spring_together_n(limits) / stiffness),
    )
    reach_rad = min(limits.clip_rad[1], limits.spring_torque_nm / turning)
    params = msgspec.structs.replace(
        default,
        translational_stiffness_n_m=stiffness,
        translational_damping_ns_m=damping,
        rotational_stiffness_nm_rad=turning,
        rotational_damping_nms_rad=default.rotational_damping_nms_rad
        * math.sqrt(turning / default.rotational_stiffness_nm_rad),
        translational_clip_m=tuple(min(clip, reach_m) for clip in default.translational_clip_m),
        rotational_clip_rad=tuple(min(clip, reach_rad) for clip in default.rotational_clip_rad),
        nullspace_stiffness_nm_rad=min(default.nullspace_stiffness_nm_rad, limits.nullspace_stiffness_nm_rad[1]),
    )
    try:
        check_impedance(params, limits)
    except Refusal as refusal:
        raise ConfigError(f"limits: the gains that the arm starts with do not fit, {refusal.detail}") from None
    return params


def _check_product(name: str, what: str, value: float, limit: float, unit: str) -> None:
    if value > limit * (1.0 + 2.0 * ROUNDING):
        remedy = "use a smaller clip or less stiffness"
        detail = f"{what} must be at most {limit:g} {unit}, got {value:.3g} {unit}; {remedy}"
        raise Refusal(422, "value", detail, field=f"params.{name}", given=value, limit=limit)
