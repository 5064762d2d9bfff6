"""The feed-forward wrench of the newest command: it ends when that is old, and when the arm is too fast under it.

Nothing here runs while there is no wrench.
"""

import math
from collections.abc import Callable

import numpy as np

from robot_servers.backend import Floats
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import Vector3, Vector6, Vector7

SPEED_FILTER_S = 0.005  # first order: 0.05 mm of noise in each reading must not look like speed


class FeedForward:
    """A wrench in the tool frame [6], N then Nm; None while there is none."""

    def __init__(self, limits: SafetyLimits, on_event: Callable[[str, str], None]) -> None:
        self._limits = limits
        self._on_event = on_event
        self.wrench: Floats | None = None
        self._command_s = 0.0
        self._last_s = 0.0
        self._last_m: Vector3 = (0.0, 0.0, 0.0)
        self._velocity: Vector3 | None = None

    def command(self, wrench: Vector6, now_s: float, measured: Vector7) -> None:
        """Push with `wrench` from now on; the arm was last seen at `measured`."""
        if self.wrench is None:
            self._last_s, self._last_m, self._velocity = now_s, measured[:3], None
        self.wrench = np.array(wrench)
        self._command_s = now_s

    def clear(self) -> None:
        """Push no more."""
        self.wrench = None

    def is_too_fast(self, now_s: float, measured: Vector7) -> bool:
        """Push no more if the command is old; return whether the arm has become too fast under it."""
        limits = self._limits
        if now_s - self._command_s > limits.wrench_timeout_s:
            self._on_event("watchdog", f"no wrench for {limits.wrench_timeout_s:g} s: zero")
            self.clear()
            return False
        speed_m_s = self._speed_m_s(now_s, measured)
        if speed_m_s > limits.speed_m_s:
            self._on_event("wrench", f"the arm moves at {speed_m_s:.3f} m/s: hold")
            return True
        return False

    def _speed_m_s(self, now_s: float, measured: Vector7) -> float:
        """Take note of the pose measured in this tick, and return the speed of the tool centre point.

        The velocity is the finite difference of the measured position, low-passed as a vector so that noise
        averages out. It starts at the first difference: an arm already too fast is not pushed for one tick.
        """
        dt_s = now_s - self._last_s
        if dt_s > 0.0:
            x, y, z = measured[:3]
            px, py, pz = self._last_m
            ux, uy, uz = (x - px) / dt_s, (y - py) / dt_s, (z - pz) / dt_s
            vx, vy, vz = self._velocity or (ux, uy, uz)
            share = dt_s / (SPEED_FILTER_S + dt_s)
            self._velocity = (vx + share * (ux - vx), vy + share * (uy - vy), vz + share * (uz - vz))
            self._last_s, self._last_m = now_s, (x, y, z)
        return 0.0 if self._velocity is None else math.hypot(*self._velocity)
