"""Unit quaternions (xyzw) and rotation vectors as plain floats: numpy would cost most of a control tick in calls."""

import math
from collections.abc import Sequence

from serl_core.robots.messages import Vector3

Quaternion = tuple[float, float, float, float]


def rotated(quaternion: Sequence[float], vector: Sequence[float]) -> Vector3:
    """Return `vector` turned by a unit quaternion: from the axes it stands for to the base frame."""
    x, y, z, w = quaternion
    a, b, c = vector
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return (a + w * tx + y * tz - z * ty, b + w * ty + z * tx - x * tz, c + w * tz + x * ty - y * tx)


def half_turn(goal: Sequence[float], start: Sequence[float]) -> Vector3:
    """Return the vector part of goal * start^-1 (xyzw, base frame), the short way round: sin of half the angle."""
    ax, ay, az, aw = goal
    bx, by, bz, bw = start
    sign = 1.0 if aw * bw + ax * bx + ay * by + az * bz >= 0.0 else -1.0
    return (
        sign * (bw * ax - aw * bx - ay * bz + az * by),
        sign * (bw * ay - aw * by - az * bx + ax * bz),
        sign * (bw * az - aw * bz - ax * by + ay * bx),
    )


def rotation_between(start: Quaternion, goal: Quaternion) -> Vector3:
    """Return the rotation vector, base frame, that turns `start` into `goal` the short way."""
    ax, ay, az, aw = start
    bx, by, bz, bw = goal
    w = aw * bw + ax * bx + ay * by + az * bz
    x = aw * bx - ax * bw + ay * bz - az * by
    y = aw * by - ay * bw + az * bx - ax * bz
    z = aw * bz - az * bw + ax * by - ay * bx
    size = math.sqrt(x * x + y * y + z * z)
    if size < 1e-12:
        return (0.0, 0.0, 0.0)
    scale = 2.0 * math.atan2(size, abs(w)) / size
    if w < 0.0:
        scale = -scale
    return (x * scale, y * scale, z * scale)


def turned(quaternion: Quaternion, rate: Vector3, dt_s: float) -> Quaternion:
    """Return `quaternion` turned with the angular velocity `rate` (base frame) for `dt_s`, of norm 1."""
    rx, ry, rz = rate
    qx, qy, qz, qw = quaternion
    speed = math.sqrt(rx * rx + ry * ry + rz * rz)
    half = 0.5 * speed * dt_s
    if half < 1e-12:
        return quaternion
    s, w = math.sin(half) / speed, math.cos(half)
    x, y, z = rx * s, ry * s, rz * s
    nx = w * qx + x * qw + y * qz - z * qy
    ny = w * qy + y * qw + z * qx - x * qz
    nz = w * qz + z * qw + x * qy - y * qx
    nw = w * qw - x * qx - y * qy - z * qz
    norm = math.sqrt(nx * nx + ny * ny + nz * nz + nw * nw)
    return (nx / norm, ny / norm, nz / norm, nw / norm)


def slerp(start: Quaternion, goal: Quaternion, share: float) -> Quaternion:
    """Return the unit quaternion `share` of the way from `start` to `goal`, the short way round."""
    ax, ay, az, aw = start
    bx, by, bz, bw = goal
    cosine = ax * bx + ay * by + az * bz + aw * bw
    sign = 1.0 if cosine >= 0.0 else -1.0
    angle = math.acos(min(1.0, abs(cosine)))
    if angle < 1e-4:  # the sines below lose their digits, and a straight line is exact to 1e-9
        from_start, from_goal = 1.0 - share, sign * share
    else:
        from_start = math.sin((1.0 - share) * angle) / math.sin(angle)
        from_goal = sign * math.sin(share * angle) / math.sin(angle)
    x, y = from_start * ax + from_goal * bx, from_start * ay + from_goal * by
    z, w = from_start * az + from_goal * bz, from_start * aw + from_goal * bw
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return (x / norm, y / norm, z / norm, w / norm)
