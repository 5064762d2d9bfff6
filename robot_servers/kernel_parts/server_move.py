"""A move of the server's own under way: its target at each time, and whether the arm has followed."""

import math
from typing import NamedTuple

from robot_servers.kernel_parts.slew import MinimumJerk
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits, angle_between, check_pose, check_range, check_tilt
from serl_core.robots.messages import MoveCommand, Vector7

SETTLE_S = 0.3  # after its set-point has arrived: let the arm follow
ARRIVE_WITHIN_S = 1.0  # then it must be near
ARRIVED_M = 0.005
ARRIVED_RAD = 0.05
LOOK_AHEAD_S = 0.2  # is it on its way out of a joint's margin
TILT_LOOKS = 16  # along the way


def checked_path(command: MoveCommand, start: Vector7, limits: SafetyLimits) -> MinimumJerk:
    """Return the path of a move.

    Args:
        command: where to, and how fast.
        start: the set-point before.
        limits: of the kernel.

    Raises:
        Refusal: too fast, or the goal or the way there is not allowed.
    """
    check_range("speed_m_s", command.speed_m_s, 0.001, limits.speed_m_s)
    check_range("speed_rad_s", command.speed_rad_s, 0.001, limits.speed_rad_s)
    goal = check_pose(command.pose, limits)
    path = MinimumJerk(start, goal, command.speed_m_s, command.speed_rad_s, limits)
    for step in range(1, TILT_LOOKS):
        check_tilt(path.along(step / TILT_LOOKS), limits)
    return path


class Outcome(NamedTuple):
    """How a move ended."""

    is_success: bool
    detail: str


class ServerMove:
    """Along a path from a time of the robot's clock on."""

    def __init__(self, path: MinimumJerk, start_s: float) -> None:
        """Store."""
        self._path = path
        self._start_s = start_s
        self._arrived_s: float | None = None  # its set-point

    def target(self, now_s: float) -> Vector7:
        """Return where the set-point is to be."""
        return self._path.at(now_s - self._start_s)

    def ahead(self, now_s: float) -> Vector7:
        """Return where it is to be soon."""
        return self._path.at(now_s - self._start_s + LOOK_AHEAD_S)

    def outcome(
        self, now_s: float, is_at_rest: bool, measured: Vector7, wall: SoftWall, stiffness_n_m: float
    ) -> Outcome | None:
        """Return how the move ended, or None while it goes on.

        Args:
            now_s: the robot's clock.
            is_at_rest: of the set-point.
            measured: pose of this tick.
            wall: it may push the arm off its goal, which counts as there.
            stiffness_n_m: of the spring that it pushes against.
        """
        elapsed_s = now_s - self._start_s
        if elapsed_s < self._path.duration_s or not is_at_rest:
            return None
        if self._arrived_s is None:
            self._arrived_s = now_s
        settled_s = now_s - self._arrived_s
        if settled_s < SETTLE_S:
            return None
        goal = self.target(now_s)
        short_m = wall.short_m(goal[:3], measured[:3], stiffness_n_m)
        angle = angle_between(goal, measured)
        if short_m <= ARRIVED_M and angle <= ARRIVED_RAD:
            return Outcome(True, "")
        if settled_s <= ARRIVE_WITHIN_S:
            return None
        distance = math.dist(goal[:3], measured[:3])
        wall_n = math.hypot(*wall.force(measured[:3]))
        pushed = f"; the soft wall pushes with {wall_n:.1f} N" if wall_n > 0.0 else ""
        return Outcome(False, f"the arm is {1e3 * distance:.1f} mm and {angle:.3f} rad short of the goal{pushed}")
