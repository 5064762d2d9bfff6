"""Which impedance a server takes in the place of one that it refuses, and in which words it would."""

import math
import re
from typing import NamedTuple

import msgspec

from robot_servers.impedance_limits import check_impedance, common_cap, widest_clips
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.errors import ConfigError
from serl_core.robots.messages import ImpedanceParams

MOST_CORRECTIONS = 100  # of one set of parameters; it has 18 numbers


class Allowed(NamedTuple):
    """What a server takes in the place of some parameters, and why it would refuse those."""

    params: ImpedanceParams
    refusals: tuple[str, ...]  # none: they are taken as they are


def nearest_allowed(params: ImpedanceParams, limits: SafetyLimits) -> Allowed:
    """Return what the server takes instead of `params`, one number after the other brought to its limit.

    The server's own check is the only judge. It judges damping by the stiffness, and clips by both: so a later
    refusal may be of a number that fitted what an earlier one was before.

    Raises:
        ConfigError: no such parameters: the limits exclude each other.
    """
    refusals: dict[str, None] = {}  # in their order; the six clips of a kind give one
    for _ in range(MOST_CORRECTIONS):
        try:
            check_impedance(params, limits)
        except Refusal as refusal:
            refusals[_sentence(refusal)] = None
            params = _corrected(params, refusal)
        else:
            return Allowed(params, tuple(refusals))
    raise ConfigError(f"no impedance fits the server's limits; the last obstacle: {list(refusals)[-1]}")


def within(value: float, bounds: tuple[float, float]) -> float:
    """Return the number nearest to `value` between two bounds."""
    return max(bounds[0], min(bounds[1], value))


def _sentence(refusal: Refusal) -> str:
    """Return a refusal in the words of the server, with the name of the parameter and without its index."""
    name = str(refusal.field).removeprefix("params.").partition("[")[0]
    detail = re.sub(r"params\.\w+(\[\d\])? ", "", refusal.detail)
    return f"{name}: {detail}"


def _corrected(params: ImpedanceParams, refusal: Refusal) -> ImpedanceParams:
    """Return `params` with the refused number brought to the limit that the refusal names."""
    name, _, rest = str(refusal.field).removeprefix("params.").partition("[")
    if not rest and isinstance(refusal.limit, list):
        return msgspec.structs.replace(params, **{name: within(refusal.given, tuple(refusal.limit))})
    if not rest:  # of the force of all clips together: the widest give way
        widest = widest_clips(params.translational_clip_m)
        cap_m = common_cap(widest, math.hypot(*widest) * refusal.limit / refusal.given)
        return msgspec.structs.replace(params, **{name: tuple(min(clip, cap_m) for clip in getattr(params, name))})
    index = int(rest.rstrip("]"))
    clips = list(getattr(params, name))
    if isinstance(refusal.limit, list):
        clips[index] = within(clips[index], tuple(refusal.limit))
    else:  # of a product of the clip: force, torque or speed
        clips[index] *= refusal.limit / refusal.given
    return msgspec.structs.replace(params, **{name: tuple(clips)})
