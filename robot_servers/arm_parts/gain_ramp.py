"""Impedance parameters on their way to the newest ones, for arms whose own controller jumps to them (SAFETY 1.3)."""

import math

import numpy as np

from robot_servers.backend import Floats
from robot_servers.limits import Refusal
from serl_core.robots.messages import ImpedanceParams, Vector6

RAMP_S = 0.1  # first-order time constant
SETTLED = 1e-3  # of each value: then the ramp ends
PUSHING_N = 10.0  # gains do not rise above this external force


class GainRamp:
    """Gains that never jump. What ramps is the force at which a clip holds the spring, not the clip itself.

    Attributes:
        params: the present ones.
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
        self._wanted = params
        self._goal = _as_array(params)
        self._is_settled = False

    def settle(self) -> None:
        """Be there at once: only right before the arm is controlled."""
        self._now, self.params, self._is_settled = self._goal, self._wanted, True

    def advance(self, dt_s: float, *, may_rise: bool) -> ImpedanceParams:
        """Move on by `dt_s` and return the present parameters; none of the gains rises unless it may."""
        rest = self._goal - self._now
        if bool((np.abs(rest) <= SETTLED * np.abs(self._goal)).all()):
            self.settle()
            return self.params
        change = -math.expm1(-dt_s / RAMP_S) * rest
        self._now = self._now + (change if may_rise else np.minimum(change, 0.0))
        self.params = _as_params(self._now)
        return self.params


def check_no_integral(params: ImpedanceParams, arm: str) -> None:
    """Refuse an integral gain for an arm whose law has none.

    Raises:
        Refusal: one of the two is not 0.
    """
    for name, value in (("translational_ki", params.translational_ki), ("rotational_ki", params.rotational_ki)):
        if value != 0.0:
            detail = f"{name}: the impedance law of {arm} has no integral term; send 0, got {value:g}"
            raise Refusal(422, "unsupported", detail, field=f"params.{name}", given=value, limit=0.0)


def _as_array(params: ImpedanceParams) -> Floats:
    """Return stiffness and damping of translation and rotation, of the posture, then stiffness * clip [17]."""
    linear, angular = params.translational_stiffness_n_m, params.rotational_stiffness_nm_rad
    return np.array(
        [
            linear,
            params.translational_damping_ns_m,
            angular,
            params.rotational_damping_nms_rad,
            params.nullspace_stiffness_nm_rad,
            *(linear * clip for clip in params.translational_clip_m),
            *(angular * clip for clip in params.rotational_clip_rad),
        ]
    )


def _as_params(gains: Floats) -> ImpedanceParams:
    linear, linear_damping, angular, angular_damping, posture, *forces = gains.tolist()
    return ImpedanceParams(
        translational_stiffness_n_m=linear,
        translational_damping_ns_m=linear_damping,
        rotational_stiffness_nm_rad=angular,
        rotational_damping_nms_rad=angular_damping,
        translational_clip_m=_clips(forces[:6], linear),
        rotational_clip_rad=_clips(forces[6:], angular),
        nullspace_stiffness_nm_rad=posture,
    )


def _clips(forces: list[float], stiffness: float) -> Vector6:
    a, b, c, d, e, f = (force / stiffness for force in forces)
    return (a, b, c, d, e, f)
