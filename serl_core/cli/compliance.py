"""From the force that a contact may feel to the impedance that keeps it, and what a server would refuse (SAFETY 1.3).

The impedance is a spring whose error is clipped, with a damper beside it. So the force of an axis ends at
stiffness * clip, and its speed in free space at that force / damping. What the server bounds is the force of all three.
"""

import math
from typing import NamedTuple

import msgspec

from robot_servers.impedance_limits import EFFECTIVE_INERTIA_KG_M2, EFFECTIVE_MASS_KG, common_cap, spring_together_n
from robot_servers.limits import SafetyLimits
from serl_core.cli.allowed_impedance import nearest_allowed, within
from serl_core.errors import ConfigError
from serl_core.robots.messages import ImpedanceParams, Vector3

CLIP_STEP_M = 1e-5  # clips are rounded down to it, so that they can be read and pasted
DAMPING_STEP = 1e-2

_DEFAULT = ImpedanceParams()


class Compliance(NamedTuple):
    """An impedance that the server takes, and how it differs from what was asked for."""

    params: ImpedanceParams
    notes: tuple[str, ...]

    @property
    def forces_n(self) -> Vector3:
        """The most that the spring pushes with, along x, y and z."""
        x, _, y, _, z, _ = (clip * self.params.translational_stiffness_n_m for clip in self.params.translational_clip_m)
        return x, y, z

    @property
    def speeds_m_s(self) -> Vector3:
        """How fast the spring drives the tool where nothing is in its way."""
        x, y, z = (force / self.params.translational_damping_ns_m for force in self.forces_n)
        return x, y, z

    @property
    def torque_nm(self) -> float:
        """The most that the spring turns with, about any axis."""
        return self.params.rotational_stiffness_nm_rad * max(self.params.rotational_clip_rad)


def compliance_for(
    forces_n: Vector3,
    limits: SafetyLimits,
    *,
    speed_m_s: float | None = None,
    stiffness_n_m: float | None = None,
    torque_nm: float | None = None,
) -> Compliance:
    """Return an impedance that pushes along x, y and z with at most `forces_n`.

    Critically damped where the speed allows it, else with as much damping as the server takes, then stiffer
    (a stiffer spring may have more damping), then weaker than asked for. Less force than `forces_n` is said
    in the notes; more there is only where the server takes no spring that is weak enough, and said as well.

    Args:
        forces_n: the most along each axis, both ways.
        limits: of the server.
        speed_m_s: the most in free space; the server's limit if not given.
        stiffness_n_m: kept if the server takes it; 2000 N/m, or what the forces need, if not given.
        torque_nm: the most about each axis; the default gains' if not given.

    Raises:
        ConfigError: a number is not above 0, or no impedance fits the server's limits.
    """
    for name, value in (
        *((f"max force along {axis}", force) for axis, force in zip("xyz", forces_n, strict=True)),
        ("max speed", speed_m_s),
        ("stiffness", stiffness_n_m),
        ("max torque", torque_nm),
    ):
        if value is not None and not 0.0 < value < math.inf:
            raise ConfigError(f"{name}: must be above 0 and finite, got {value:g}")
    speed = min(speed_m_s or math.inf, limits.speed_m_s)
    cap_n = common_cap(forces_n, spring_together_n(limits))
    wanted = tuple(min(force, cap_n) for force in forces_n)
    stiffness = _stiffness(min(wanted), max(wanted), speed, stiffness_n_m, limits)
    damping = _damping(stiffness, EFFECTIVE_MASS_KG, max(wanted) / speed, limits)
    clips = tuple(_clip(min(force, speed * damping) / stiffness, limits) for force in wanted)
    turning, turning_clip = _turning(torque_nm, limits)
    x, y, z = clips
    params = msgspec.structs.replace(
        _DEFAULT,
        translational_stiffness_n_m=stiffness,
        translational_damping_ns_m=damping,
        translational_clip_m=(x, x, y, y, z, z),
        rotational_stiffness_nm_rad=turning,
        rotational_damping_nms_rad=_damping(turning, EFFECTIVE_INERTIA_KG_M2, 0.0, limits),
        rotational_clip_rad=(turning_clip,) * 6,
        nullspace_stiffness_nm_rad=within(_DEFAULT.nullspace_stiffness_nm_rad, limits.nullspace_stiffness_nm_rad),
    )
    params, refusals = nearest_allowed(params, limits)
    found = Compliance(params, ())
    notes = [*_differences(found, forces_n, speed_m_s, stiffness_n_m, torque_nm), *refusals]
    return Compliance(params, tuple(notes))


def _stiffness(least_n: float, most_n: float, speed_m_s: float, asked: float | None, limits: SafetyLimits) -> float:
    """Return a stiffness at which no clip is too small for the weakest axis, or too large for the strongest."""
    if asked is not None:
        return within(asked, limits.stiffness_n_m)
    low_clip, high_clip = limits.clip_m
    damped = most_n / (2.0 * limits.damping_ratio[1] * speed_m_s)  # critical damping at this: sqrt(stiffness * mass)
    needed = max(most_n / high_clip, damped**2 / EFFECTIVE_MASS_KG)
    stiffness = max(_DEFAULT.translational_stiffness_n_m, float(math.ceil(1.001 * needed)))
    return within(min(stiffness, least_n / low_clip), limits.stiffness_n_m)


def _damping(stiffness: float, inertia: float, needed: float, limits: SafetyLimits) -> float:
    """Return critical damping, or `needed` where that is more, as far as the server takes it."""
    critical = 2.0 * math.sqrt(stiffness * inertia)
    low, high = (round(ratio * critical, 3) for ratio in limits.damping_ratio)
    # Up, for less damping is more speed; and the check rounds its bounds too.
    rounded = math.ceil(max(critical, needed) / DAMPING_STEP - 1e-6) * DAMPING_STEP
    return round(within(rounded, (low, high)), 3)


def _clip(wanted_m: float, limits: SafetyLimits) -> float:
    steps = math.floor(wanted_m / CLIP_STEP_M + 1e-6)
    return within(round(steps * CLIP_STEP_M, 5), limits.clip_m)


def _turning(torque_nm: float | None, limits: SafetyLimits) -> tuple[float, float]:
    """Return stiffness and clip about each axis: the default stiffness, unless the torque needs another."""
    low_clip, high_clip = limits.clip_rad
    default = _DEFAULT.rotational_stiffness_nm_rad
    wanted = min(torque_nm or default * max(_DEFAULT.rotational_clip_rad), limits.spring_torque_nm)
    stiffness = within(min(max(default, wanted / high_clip), wanted / low_clip), limits.stiffness_nm_rad)
    clip = math.floor(1e4 * wanted / stiffness + 1e-6) / 1e4
    return stiffness, within(clip, limits.clip_rad)


def _differences(
    found: Compliance, forces_n: Vector3, speed_m_s: float | None, stiffness_n_m: float | None, torque_nm: float | None
) -> list[str]:
    """Return a sentence for each number that is not what was asked for, beyond the rounding."""
    notes = []
    rounding_n = found.params.translational_stiffness_n_m * CLIP_STEP_M
    for axis, asked, force in zip("xyz", forces_n, found.forces_n, strict=True):
        if force > asked + 1e-9:
            why = "the weakest spring that the server takes has"
        elif force < asked - 1.01 * rounding_n:
            why = "the server's limits leave" if speed_m_s is None else "the server's limits and the speed leave"
        else:
            continue
        notes.append(f"{axis}: {asked:g} N was asked for; {why} {force:.3g} N")
    if speed_m_s is not None and max(found.speeds_m_s) > speed_m_s + 1e-9:
        notes.append(f"{speed_m_s:g} m/s was asked for; it may reach {max(found.speeds_m_s):.3g} m/s")
    stiffness = found.params.translational_stiffness_n_m
    if stiffness_n_m is not None and not math.isclose(stiffness, stiffness_n_m):
        notes.append(f"a stiffness of {stiffness_n_m:g} N/m was asked for; the server takes {stiffness:g} N/m")
    if torque_nm is not None and not math.isclose(found.torque_nm, torque_nm, rel_tol=0.05):
        notes.append(f"{torque_nm:g} Nm was asked for; the server's limits leave {found.torque_nm:.3g} Nm")
    return notes
