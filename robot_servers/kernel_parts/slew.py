"""The set-point's motion: a trapezoidal speed profile towards the target, and minimum-jerk moves.

Plain floats, because this runs in every control tick. Invariants, for any sequence of targets in the
box: speed and acceleration stay within their limits, and the position never leaves the box.
"""

import math

import numpy as np

from robot_servers.backend import Reference
from robot_servers.limits import SafetyLimits, angle_between
from robot_servers.rotations import rotation_between, turned
from serl_core.robots.messages import Vector3, Vector7

MAX_TICK_S = 0.01  # a control loop that paused must not make the set-point jump
PEAK_SPEED = 1.875  # of a minimum-jerk profile, times its mean speed
PEAK_ACCELERATION = 5.7735  # times distance / duration^2
STILL = (0.0, 0.0, 0.0)


class SetPoint:
    """Where the impedance law is told to be, with its present velocity."""

    def __init__(self, limits: SafetyLimits) -> None:
        self._limits = limits
        self._low, self._high = limits.box_low_m, limits.box_high_m
        self.place((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))

    def place(self, pose: Vector7) -> None:
        """Be at `pose`, at rest."""
        self.pose = pose
        self.reference = _reference(pose)
        self._velocity: Vector3 = STILL
        self._rate: Vector3 = STILL  # angular velocity
        self.is_at_rest = True

    def draw_back(self, position_m: Vector3) -> None:
        """Be at a position behind the present one, with the velocity that there is; an arm outside draws none out."""
        x, y, z = (
            min(max(new, min(low, old)), max(high, old))
            for new, old, low, high in zip(position_m, self.pose[:3], self._low, self._high, strict=True)
        )
        self.pose = (x, y, z, *self.pose[3:])
        self.reference = _reference(self.pose)
        self.is_at_rest = False

    def advance(self, target: Vector7, dt_s: float) -> None:
        """Move for one tick towards `target`, in a straight line if at rest, turning the short way."""
        dt_s = min(dt_s, MAX_TICK_S)
        if dt_s <= 0.0 or (self.is_at_rest and target == self.pose):
            return
        limits = self._limits
        x, y, z, qx, qy, qz, qw = self.pose
        quaternion = (qx, qy, qz, qw)
        error = (target[0] - x, target[1] - y, target[2] - z)
        velocity, is_there = _approach(error, self._velocity, limits.speed_m_s, limits.acceleration_m_s2, dt_s)
        if is_there:
            position = target[:3]
        else:
            position, velocity = self._stay_inside((x, y, z), velocity, dt_s)
        self._velocity = velocity
        turn = rotation_between(quaternion, target[3:])
        self._rate, is_turned = _approach(turn, self._rate, limits.speed_rad_s, limits.acceleration_rad_s2, dt_s)
        self.is_at_rest = is_there and is_turned and velocity == STILL and self._rate == STILL
        self.pose = (*position, *(target[3:] if is_turned else turned(quaternion, self._rate, dt_s)))
        self.reference = _reference(self.pose)

    def _stay_inside(self, position: Vector3, velocity: Vector3, dt_s: float) -> tuple[Vector3, Vector3]:
        """Return the next position and velocity; brake in line if the arm could else not stop in the box.

        By induction a straight braking path always ends inside: this tick either keeps that true or
        brakes along it.
        """
        acceleration = self._limits.acceleration_m_s2
        x, y, z = position
        vx, vy, vz = velocity
        speed = math.sqrt(vx * vx + vy * vy + vz * vz)
        reach = dt_s + speed / (2.0 * acceleration)  # seconds at this velocity until it could stand
        (lx, ly, lz), (hx, hy, hz) = self._low, self._high
        is_inside = lx <= x + vx * reach <= hx and ly <= y + vy * reach <= hy and lz <= z + vz * reach <= hz
        if not is_inside and self._goes_out(position, velocity, reach):
            vx, vy, vz = self._velocity
            speed = math.sqrt(vx * vx + vy * vy + vz * vz)
            left = max(0.0, 1.0 - acceleration * dt_s / speed) if speed > 0.0 else 0.0
            vx, vy, vz = vx * left, vy * left, vz * left
        return (x + vx * dt_s, y + vy * dt_s, z + vz * dt_s), (vx, vy, vz)

    def _goes_out(self, position: Vector3, velocity: Vector3, reach_s: float) -> bool:
        """Return whether any axis leaves the box, or goes further out if a hold began outside of it."""
        return any(
            not min(low, p) <= p + v * reach_s <= max(high, p)
            for low, high, p, v in zip(self._low, self._high, position, velocity, strict=True)
        )


class MinimumJerk:
    """A smooth path between two poses that starts and ends at rest (Flash and Hogan 1985)."""

    def __init__(
        self, start: Vector7, goal: Vector7, speed_m_s: float, speed_rad_s: float, limits: SafetyLimits
    ) -> None:
        self._start = start
        self._goal = goal
        self._turn = rotation_between(start[3:], goal[3:])
        distance, angle = math.dist(start[:3], goal[:3]), angle_between(start, goal)
        self.duration_s = max(
            PEAK_SPEED * distance / speed_m_s,
            PEAK_SPEED * angle / speed_rad_s,
            math.sqrt(PEAK_ACCELERATION * distance / limits.acceleration_m_s2),
            math.sqrt(PEAK_ACCELERATION * angle / limits.acceleration_rad_s2),
        )

    def at(self, elapsed_s: float) -> Vector7:
        """Return the pose `elapsed_s` after the start."""
        if elapsed_s >= self.duration_s:
            return self._goal
        return self.along(elapsed_s / self.duration_s)

    def along(self, fraction: float) -> Vector7:
        """Return the pose at a fraction of the duration."""
        s = fraction**3 * (10.0 - 15.0 * fraction + 6.0 * fraction**2)
        x, y, z = (a + s * (b - a) for a, b in zip(self._start[:3], self._goal[:3], strict=True))
        return (x, y, z, *turned(self._start[3:], self._turn, s))


def _approach(
    error: Vector3, velocity: Vector3, max_speed: float, max_acceleration: float, dt_s: float
) -> tuple[Vector3, bool]:
    """Return the next velocity on the way to a point `error` away, and whether it arrives in this tick.

    The wished velocity points at the target and is as high as still allows to stop there:
    v dt + v^2 / 2a = distance. The velocity turns to it by at most a dt.
    """
    ex, ey, ez = error
    vx, vy, vz = velocity
    change = max_acceleration * dt_s
    distance = math.sqrt(ex * ex + ey * ey + ez * ez)
    if distance <= change * dt_s:
        ux, uy, uz = ex / dt_s, ey / dt_s, ez / dt_s
        if (ux - vx) ** 2 + (uy - vy) ** 2 + (uz - vz) ** 2 <= change * change:
            return (ux, uy, uz), True
        scale = 1.0 / dt_s
    else:
        braking = max_acceleration * (math.sqrt(dt_s * dt_s + 2.0 * distance / max_acceleration) - dt_s)
        scale = min(max_speed, braking) / distance
    dx, dy, dz = ex * scale - vx, ey * scale - vy, ez * scale - vz
    size = math.sqrt(dx * dx + dy * dy + dz * dz)
    share = change / size if size > change else 1.0
    return (vx + dx * share, vy + dy * share, vz + dz * share), False


def _reference(pose: Vector7) -> Reference:
    return Reference(np.array(pose[:3]), np.array(pose[3:]))
