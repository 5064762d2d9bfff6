"""The joints, seen from a kernel that commands poses: how fast they turn, and whether a command drives one to its end.

The joint angles that a pose asks for are predicted to first order, q + J^+ twist, with the damped
least-squares inverse J^+ = J^T (J J^T + d^2 I)^-1 (Nakamura and Hanafusa 1986): near a singularity the
prediction stays bounded.
"""

import math
from collections.abc import Sequence

import numpy as np

from robot_servers.backend import Floats, JointLimits
from robot_servers.limits import Refusal
from robot_servers.rotations import rotated, rotation_between
from serl_core.robots.messages import Vector6, Vector7

MARGIN_RAD = 0.05  # this near its limit a joint is driven no further in (SAFETY 1.4.6)
NOISE_RAD = 1e-3  # a target that asks to stay is not refused because the reading flickers
NOISE_NM = 0.1
DAMPING = 0.01  # of the least squares, m and rad alike
_NOT_KNOWN = [math.nan] * 7


class JointGuard:
    """The newest reading of the joints against their limits.

    Attributes:
        is_near: a joint is inside the margin. While none is, nothing here costs a control tick much.
        too_fast: which joint turns faster than allowed, and how fast.
    """

    def __init__(self, limits: JointLimits) -> None:
        """Store the limits; `measure` comes before all else."""
        self.is_near = False
        self.too_fast: str | None = None
        self._limits = limits
        self._low = tuple(low + MARGIN_RAD for low in limits.low_rad)
        self._high = tuple(high - MARGIN_RAD for high in limits.high_rad)
        self._middle = [(low + high) / 2.0 for low, high in zip(self._low, self._high, strict=True)]
        self._reach = min(high - low for low, high in zip(self._low, self._high, strict=True)) / 2.0
        self._slow = min(limits.speed_rad_s)
        self._q = [0.0] * 7
        self._dq = [0.0] * 7
        self._jacobian: Floats = np.zeros((6, 7))

    def measure(self, q: list[float], dq: list[float], jacobian: Floats) -> bool:
        """Take note of a reading: angles [7] rad, speeds [7] rad/s, Jacobian [6, 7]; False, and nothing, if not finite.

        This runs in every control tick: mostly two calls tell that no joint is near its end and none is fast.
        """
        is_far, is_slow = math.dist(q, self._middle) <= self._reach, math.hypot(*dq) <= self._slow
        if not (is_far and is_slow) and not math.isfinite(sum(q) + sum(dq)):
            return False
        self._q, self._dq = q, dq
        self._jacobian = jacobian.copy()
        self.is_near = not is_far and any(
            not low <= angle <= high for angle, low, high in zip(q, self._low, self._high, strict=True)
        )
        self.too_fast = None if is_slow else self._first_too_fast(dq)
        return True

    def velocity(self) -> Floats:
        """Return the velocity [3] of the tool in m/s, base frame; NaN when the Jacobian is not finite."""
        velocity: Floats = self._jacobian[:3] @ self._dq
        return velocity

    def _first_too_fast(self, dq: list[float]) -> str | None:
        for i, (speed, limit) in enumerate(zip(dq, self._limits.speed_rad_s, strict=True), start=1):
            if abs(speed) > limit:
                return f"joint {i} turns at {speed:.3f} rad/s, allowed is {limit:g} rad/s"
        return None

    def check_target(self, target: Vector7, measured: Vector7) -> None:
        """Refuse a target that would take a joint into the margin, or further in; the way out is free."""
        change = self._change(measured, target)
        for i, (q, by, low, high) in enumerate(zip(self._q, change, self._low, self._high, strict=True)):
            to = q + by
            if not _leads_in(to, by, low, high, NOISE_RAD):
                continue
            detail = (
                f"joint {i + 1} would turn from {q:.3f} to {to:.3f} rad, allowed is {low:.3f} to {high:.3f} rad, "
                f"{MARGIN_RAD:g} rad inside its limits; send a target that turns it back, or use /v1/joint_reset"
            )
            raise Refusal(422, "joint_limit", detail, field="pose", given=to, limit=[low, high])

    def check_wrench(self, wrench: Vector6, measured: Vector7) -> None:
        """Refuse a wrench (tool frame) that pushes a joint in the margin further in."""
        detail = self.pushed_in(wrench, measured) if self.is_near else None
        if detail is not None:
            raise Refusal(422, "joint_limit", f"{detail}; push it back, or use /v1/joint_reset", field="wrench")

    def pushed_in(self, wrench: Sequence[float], measured: Vector7) -> str | None:
        """Return which joint in the margin a wrench (tool frame, [6]) pushes further in."""
        tool, torque = measured[3:], _NOT_KNOWN
        if np.isfinite(self._jacobian).all():
            push = np.array((*rotated(tool, wrench[:3]), *rotated(tool, wrench[3:])))
            torque = (push @ self._jacobian).tolist()
        return self._first_in(torque, NOISE_NM)

    def driven_in(self, measured: Vector7, set_point: Vector7, ahead: Vector7) -> str | None:
        """Return which joint in the margin the set-point pulls further in, unless it is on its way out to `ahead`.

        What pushes a joint off its limit, such as the simulator's repulsion, takes the arm out ahead of the
        set-point, so that a motion outwards may begin with a set-point that is further in.
        """
        pull = self._change(measured, set_point)
        if self._first_in(pull, NOISE_RAD) is None:
            return None
        onward = self._change(set_point, ahead)
        kept = [0.0 if by * on < 0.0 else by for by, on in zip(pull, onward, strict=True)]
        return self._first_in(kept, NOISE_RAD)

    def _first_in(self, change: list[float], noise: float) -> str | None:
        """Return the first joint inside the margin that a change (rad, or a torque) takes further in."""
        for i, (q, by, low, high) in enumerate(zip(self._q, change, self._low, self._high, strict=True)):
            if _leads_in(q, by, low, high, noise):
                return (
                    f"joint {i + 1} at {q:.3f} rad, allowed is {low:.3f} to {high:.3f} rad, would be driven further in"
                )
        return None

    def _change(self, start: Vector7, goal: Vector7) -> list[float]:
        """Return the change of the joints [7] in rad from pose to pose; NaN when the Jacobian is not finite."""
        jacobian = self._jacobian
        if not np.isfinite(jacobian).all():
            return _NOT_KNOWN
        gram = jacobian @ jacobian.T
        gram.flat[::7] += DAMPING**2
        way = [b - a for a, b in zip(start[:3], goal[:3], strict=True)]
        twist = np.array((*way, *rotation_between(start[3:], goal[3:])))
        change: list[float] = (np.linalg.solve(gram, twist) @ jacobian).tolist()
        return change


def _leads_in(angle: float, change: float, low: float, high: float, noise: float) -> bool:
    """Return whether an angle is outside its bounds and the change is outwards. What is not a number is."""
    return (not angle >= low and not change >= -noise) or (not angle <= high and not change <= noise)
