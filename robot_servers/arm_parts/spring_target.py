"""The pose to command a plain impedance controller with, so that its spring does what this project's law does.

Such a controller pulls with K * (target - measured) and knows neither error clip nor feed-forward wrench. Both become
part of the target: the error is clipped per axis and sign about the measured pose, and a wrench w moves the target
on by w / K. The rotational error is the vector part of the error's quaternion, base frame: sin of half the angle.
"""

import math
from collections.abc import Sequence

from robot_servers.rotations import half_turn, rotated
from serl_core.robots.messages import ImpedanceParams, Vector7

LARGEST_HALF_TURN = 0.7  # sin of half the angle: beyond a quarter turn the law's pull falls off again


def spring_target(
    reference: Vector7, measured: Vector7, params: ImpedanceParams, wrench: Sequence[float] | None = None
) -> Vector7:
    """Return the pose that pulls from `measured` as `reference` does behind the error clip.

    Args:
        reference: what is to be tracked, base frame.
        measured: where the tool is, base frame.
        params: stiffness and clips.
        wrench: feed-forward, in N and Nm on the tool, tool frame [6].
    """
    tool = measured[3:]
    linear = [to - at for to, at in zip(reference[:3], measured[:3], strict=True)]
    angular: Sequence[float] = half_turn(reference[3:], tool)
    linear = _clipped(linear, params.translational_clip_m)
    angular = _clipped(angular, params.rotational_clip_rad)
    if wrench is not None:
        force, torque = rotated(tool, wrench[:3]), rotated(tool, wrench[3:])
        linear = [e + f / params.translational_stiffness_n_m for e, f in zip(linear, force, strict=True)]
        angular = [e + t / params.rotational_stiffness_nm_rad for e, t in zip(angular, torque, strict=True)]
    size = math.hypot(*angular)
    if size > LARGEST_HALF_TURN:
        angular = [e * LARGEST_HALF_TURN / size for e in angular]
    x, y, z = (at + e for at, e in zip(measured[:3], linear, strict=True))
    return (x, y, z, *_turned_half(tool, angular))


def _clipped(error: Sequence[float], clips: Sequence[float]) -> list[float]:
    return [min(max(e, -clips[2 * i]), clips[2 * i + 1]) for i, e in enumerate(error)]


def _turned_half(start: Sequence[float], half: Sequence[float]) -> tuple[float, float, float, float]:
    """Return `start` turned by the rotation whose quaternion has the vector part `half`, base frame."""
    x, y, z = half
    w = math.sqrt(max(0.0, 1.0 - (x * x + y * y + z * z)))
    bx, by, bz, bw = start
    return (
        w * bx + x * bw + y * bz - z * by,
        w * by + y * bw + z * bx - x * bz,
        w * bz + z * bw + x * by - y * bx,
        w * bw - x * bx - y * by - z * bz,
    )
