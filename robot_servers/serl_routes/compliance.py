"""HIL-SERL's compliance parameters, by its names, brought inside the envelope of the safety kernel.

That server lets them reach 600 N (SAFETY 1.3). Here each goes to the nearest allowed value, and whoever
asked is told: a client of those routes would not notice a refusal, and run with gains of another mode.
"""

import math
from typing import NamedTuple

import msgspec

from robot_servers.impedance_limits import (
    EFFECTIVE_INERTIA_KG_M2,
    EFFECTIVE_MASS_KG,
    check_impedance,
    common_cap,
    spring_together_n,
    widest_clips,
)
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import ImpedanceParams, Message, Vector6

FREE_SPEED_SHARE = 0.8  # of the speed limit, under the largest wrench along one axis: noise must not reach the limit


class Compliance(Message, frozen=True):
    """The parameters of HIL-SERL's impedance controller (REFERENCE section 4), in m, rad, N, s.

    Its clips bound `measured - target`: ``clip_x`` how far the arm may be beyond its target towards +x, so how hard
    the spring pulls towards -x, and ``clip_neg_x`` the other side.
    """

    translational_stiffness: float = 2000.0
    translational_damping: float = 89.0
    rotational_stiffness: float = 150.0
    rotational_damping: float = 7.0
    nullspace_stiffness: float = 10.0  # of all joints, ours: the original's 0.2 goes with 20 for the first joint alone
    joint1_nullspace_stiffness: float = 100.0  # has no counterpart here
    translational_clip_x: float = 0.01
    translational_clip_y: float = 0.01
    translational_clip_z: float = 0.01
    translational_clip_neg_x: float = 0.01
    translational_clip_neg_y: float = 0.01
    translational_clip_neg_z: float = 0.01
    rotational_clip_x: float = 0.05
    rotational_clip_y: float = 0.05
    rotational_clip_z: float = 0.05
    rotational_clip_neg_x: float = 0.05
    rotational_clip_neg_y: float = 0.05
    rotational_clip_neg_z: float = 0.05
    translational_Ki: float = 0.0
    rotational_Ki: float = 0.0


CLIP_ENDS = ("x", "neg_x", "y", "neg_y", "z", "neg_z")  # in the order of ours: the force towards -x first, see above


class Clamped(NamedTuple):
    """What the arm gets, and in words what was changed for it."""

    params: ImpedanceParams
    changes: tuple[str, ...]


def clamp(wanted: Compliance, limits: SafetyLimits) -> Clamped:
    """Return the parameters inside the envelope that are nearest to `wanted`, stiffness before damping before clips.

    Raises:
        Refusal: the limits allow no such parameters at all.
    """
    changes: list[str] = []

    def within(name: str, low: float, high: float) -> float:
        value: float = getattr(wanted, name)
        allowed = max(low, min(value, high))
        if allowed != value:
            changes.append(f"{name} {value:g} to {allowed:.4g}")
        return allowed

    def clips(kind: str, low: float, high: float) -> Vector6:
        a, b, c, d, e, f = (within(f"{kind}_clip_{end}", low, high) for end in CLIP_ENDS)
        return (a, b, c, d, e, f)

    def reach_m_together(reach_m: float, most_m: float) -> float:
        a, b, c, d, e, f = (getattr(wanted, f"translational_clip_{end}") for end in CLIP_ENDS)
        x, y, z = (max(limits.clip_m[0], min(widest, reach_m)) for widest in widest_clips((a, b, c, d, e, f)))
        return min(reach_m, common_cap((x, y, z), most_m))

    stiffness = within("translational_stiffness", *limits.stiffness_n_m)
    turning = within("rotational_stiffness", *limits.stiffness_nm_rad)
    damping = within("translational_damping", *damping_range(stiffness, EFFECTIVE_MASS_KG, limits))
    turning_damping = within("rotational_damping", *damping_range(turning, EFFECTIVE_INERTIA_KG_M2, limits))
    reach_m = min(limits.clip_m[1], limits.speed_m_s * damping / stiffness)
    reach_m = reach_m_together(reach_m, spring_together_n(limits) / stiffness)
    reach_rad = min(limits.clip_rad[1], limits.spring_torque_nm / turning)
    params = ImpedanceParams(
        translational_stiffness_n_m=stiffness,
        translational_damping_ns_m=damping,
        rotational_stiffness_nm_rad=turning,
        rotational_damping_nms_rad=turning_damping,
        translational_clip_m=clips("translational", limits.clip_m[0], reach_m),
        rotational_clip_rad=clips("rotational", limits.clip_rad[0], reach_rad),
        nullspace_stiffness_nm_rad=within("nullspace_stiffness", *limits.nullspace_stiffness_nm_rad),
        translational_ki=within("translational_Ki", *limits.integral_gain),
        rotational_ki=within("rotational_Ki", *limits.integral_gain),
    )
    check_impedance(params, limits)
    return Clamped(params, tuple(changes))


def without_integral(wanted: Compliance) -> Compliance:
    """Return the same without integral gains, for an arm whose controller has none."""
    return msgspec.structs.replace(wanted, translational_Ki=0.0, rotational_Ki=0.0)


def wrench_impedance(limits: SafetyLimits) -> ImpedanceParams:
    """Return parameters under which the arm yields to a feed-forward wrench, as in HIL-SERL's wrench mode.

    The clips are the smallest, so that the spring has no force to speak of. The damping is what keeps the
    largest wrench along one axis below the speed limit, as far as the envelope allows.
    """
    wanted = {
        "translational": (limits.wrench_force_n / limits.speed_m_s, EFFECTIVE_MASS_KG),
        "rotational": (limits.wrench_torque_nm / limits.speed_rad_s, EFFECTIVE_INERTIA_KG_M2),
    }
    free: dict[str, float] = {}
    for kind, (least_damping, inertia) in wanted.items():
        damping = least_damping / FREE_SPEED_SHARE
        softest = (damping / (2.0 * limits.damping_ratio[1])) ** 2 / inertia  # that may have so much damping
        free |= {f"{kind}_stiffness": softest, f"{kind}_damping": damping}
        free |= {f"{kind}_clip_{end}": 0.0 for end in CLIP_ENDS}
    return clamp(msgspec.convert(free, Compliance), limits).params


def damping_range(stiffness: float, inertia: float, limits: SafetyLimits) -> tuple[float, float]:
    """Return the damping that `check_impedance` allows: a share of the critical one, to its three digits."""
    low, high = (round(ratio * 2.0 * math.sqrt(stiffness * inertia), 3) for ratio in limits.damping_ratio)
    return low, high
