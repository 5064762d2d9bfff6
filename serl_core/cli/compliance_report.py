"""An impedance in words: forces and speeds per axis, a block to paste, and what a server says of a task's own."""

import math

import msgspec

from robot_servers.limits import SafetyLimits
from serl_core.cli.allowed_impedance import nearest_allowed
from serl_core.cli.compliance import Compliance
from serl_core.config import TaskConfig
from serl_core.robots.messages import ImpedanceParams


def budget(found: Compliance, limits: SafetyLimits) -> str:
    """Return the force budget of an impedance, axis by axis, and all that comes on top of it."""
    p = found.params
    lines = ["axis  stiffness     damping      clip       force <= K clip   free speed <= K clip / D"]
    for axis, clip, force, speed in zip(
        "xyz", p.translational_clip_m[::2], found.forces_n, found.speeds_m_s, strict=True
    ):
        lines.append(
            f"{axis:<5} {p.translational_stiffness_n_m:5.0f} N/m {p.translational_damping_ns_m:8.2f} Ns/m "
            f"{1e3 * clip:7.2f} mm {force:9.2f} N {speed:18.3f} m/s"
        )
    lines += [
        f"turning: {p.rotational_stiffness_nm_rad:g} Nm/rad, clip {max(p.rotational_clip_rad):g} (half angle), "
        f"at most {found.torque_nm:.2f} Nm about each axis",
        f"all three axes at once: {math.hypot(*found.forces_n):.1f} N",
        f"on top of it: the soft wall at the workspace's edge, up to "
        f"{limits.soft_wall_n_m * (limits.soft_wall_m + limits.box_exit_m):.0f} N; a feed-forward wrench, where a task "
        f"sends one, up to {limits.wrench_force_n:g} N per axis; an impact, which the moving mass decides",
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def snippet(params: ImpedanceParams) -> str:
    """Return Python to paste into a TaskConfig."""
    return f"compliance={_constructor(params)},"


def verdicts(task: TaskConfig, limits: SafetyLimits) -> str:
    """Return what a server with these limits says of a task's two sets of parameters."""
    return "\n".join(
        line
        for name, params in (("compliance", task.compliance), ("precision", task.precision))
        for line in _verdict(f"task {task.name!r}, {name}", params, limits)
    )


def _verdict(what: str, params: ImpedanceParams, limits: SafetyLimits) -> list[str]:
    allowed = nearest_allowed(params, limits)
    force = params.translational_stiffness_n_m * max(params.translational_clip_m)
    if not allowed.refusals:
        return [f"{what}: taken as it is, at most {force:.1f} N along an axis"]
    return [
        f"{what}: refused, and the old gains stay",
        *(f"  {why}" for why in allowed.refusals),
        f"the nearest that is taken: {_constructor(allowed.params)}",
    ]


def _constructor(params: ImpedanceParams) -> str:
    """Return the Python that makes `params`: only what differs from the default gains."""
    default = ImpedanceParams()
    names = [field.name for field in msgspec.structs.fields(params)]
    changed = [name for name in names if getattr(params, name) != getattr(default, name)]
    lines = [f"    {name}={getattr(params, name)!r}," for name in changed]
    return "\n".join(["ImpedanceParams(", *lines, ")"]) if lines else "ImpedanceParams()"
