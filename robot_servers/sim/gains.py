"""The impedance law's gains on their way to the newest parameters (SAFETY 1.3)."""

import math

import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.model import PERIOD_S
from serl_core.robots.messages import ImpedanceParams

RAMP_S = 0.1  # first-order time constant
SETTLED = 1e-6  # of the value: then the ramp ends

_SHARE = -math.expm1(-PERIOD_S / RAMP_S)


class RampedGains:
    """Gains that never jump: stiffness, damping, integral and the force at which the clip holds the spring.

    Attributes:
        axes: for x, y, z and the rotations about them: stiffness, damping, ki, and the largest spring
            force (or torque) towards - and towards +, which is stiffness times clip. SI units.
        nullspace_nm_rad: stiffness of the posture.
    """

    def __init__(self, params: ImpedanceParams) -> None:
        self.set_goal(params)
        self.settle()

    @property
    def is_settled(self) -> bool:
        """The gains are what was last asked for."""
        return self._is_settled

    def set_goal(self, params: ImpedanceParams) -> None:
        """Let the gains go to `params`."""
        self._goal = _as_array(params)
        self._is_settled = False

    def settle(self) -> None:
        """Be there at once: only right for an arm that is put somewhere at rest."""
        self._is_settled = True
        self._adopt(self._goal.copy())

    def ramp(self, *, may_rise: bool) -> None:
        """Move on by one tick; none of the gains rises unless it may."""
        change = _SHARE * (self._goal - self._now)
        if np.abs(self._goal - self._now).max() <= SETTLED * np.abs(self._goal).max():
            self.settle()
        else:
            self._adopt(self._now + (change if may_rise else np.minimum(change, 0.0)))

    def _adopt(self, gains: NDArray[np.float64]) -> None:
        self._now = gains
        self.axes: list[list[float]] = gains[:-1].reshape(6, 5).tolist()
        self.nullspace_nm_rad = float(gains[-1])


def _as_array(params: ImpedanceParams) -> NDArray[np.float64]:
    """Return the numbers of `params` in one array [31]: all positive, so that rising means more force."""
    linear = (params.translational_stiffness_n_m, params.translational_damping_ns_m, params.translational_ki)
    angular = (params.rotational_stiffness_nm_rad, params.rotational_damping_nms_rad, params.rotational_ki)
    clips = params.translational_clip_m + params.rotational_clip_rad
    numbers: list[float] = []
    for axis in range(6):
        stiffness, damping, ki = linear if axis < 3 else angular
        numbers += [stiffness, damping, ki, stiffness * clips[2 * axis], stiffness * clips[2 * axis + 1]]
    return np.array([*numbers, params.nullspace_stiffness_nm_rad])
