"""Gains drawn from all that a server takes, its corners first: what `check_impedance` lets through, an arm may get."""

import math

import numpy as np

from robot_servers.impedance_limits import (
    EFFECTIVE_INERTIA_KG_M2,
    EFFECTIVE_MASS_KG,
    check_impedance,
    common_cap,
    spring_together_n,
    widest_clips,
)
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import ImpedanceParams, Vector6

CORNER = 0.5  # so often a number is one of its bounds


def allowed_gains(drawn: np.random.Generator, limits: SafetyLimits) -> ImpedanceParams:
    """Return gains that `limits` allow: each number anywhere in its range, often at an end of it."""

    def between(low: float, high: float) -> float:
        if drawn.random() < CORNER:
            return float(drawn.choice((low, high)))
        return float(drawn.uniform(low, high))

    def stiffness(low: float, high: float) -> float:
        return min(max(low, math.exp(between(math.log(low), math.log(high)))), high)

    def damping(stiffness: float, inertia: float) -> float:
        return round(between(*limits.damping_ratio) * 2.0 * math.sqrt(stiffness * inertia), 3)

    def clips(low: float, high: float) -> Vector6:
        a, b, c, d, e, f = (high if drawn.random() < CORNER else between(low, high) for _ in range(6))
        return (a, b, c, d, e, f)

    linear, angular = stiffness(*limits.stiffness_n_m), stiffness(*limits.stiffness_nm_rad)
    linear_damping = damping(linear, EFFECTIVE_MASS_KG)
    wide = clips(limits.clip_m[0], min(limits.clip_m[1], limits.speed_m_s * linear_damping / linear))
    cap_m = common_cap(widest_clips(wide), spring_together_n(limits) / linear)
    a, b, c, d, e, f = (min(clip, cap_m) for clip in wide)
    params = ImpedanceParams(
        translational_stiffness_n_m=linear,
        translational_damping_ns_m=linear_damping,
        rotational_stiffness_nm_rad=angular,
        rotational_damping_nms_rad=damping(angular, EFFECTIVE_INERTIA_KG_M2),
        translational_clip_m=(a, b, c, d, e, f),
        rotational_clip_rad=clips(limits.clip_rad[0], min(limits.clip_rad[1], limits.spring_torque_nm / angular)),
        nullspace_stiffness_nm_rad=between(*limits.nullspace_stiffness_nm_rad),
        translational_ki=between(*limits.integral_gain),
        rotational_ki=between(*limits.integral_gain),
    )
    check_impedance(params, limits)
    return params
