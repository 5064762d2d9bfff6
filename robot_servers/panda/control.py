"""Which of panda-python's controllers runs on the arm, and what it is told.

Every start of one clears the arm's errors, so that none may be started on an arm in a reflex.
"""

import math

import numpy as np
import panda_py
from panda_py import controllers

from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.backend import Floats
from serl_core.robots.messages import ImpedanceParams, Vector7

STARTING_S = 0.5  # until a controller that was started must be seen running
CONTROLLER_ENDED = "controller_ended"


class PandaControl:
    """One controller at a time. Whatever the library refuses comes as its RuntimeError."""

    def __init__(self, smoothing_s: float) -> None:
        """Store the time constant of the library's own filter; 0 for none."""
        # The share that it moves on by in each of its 1 ms steps.
        self._share = 1.0 if smoothing_s <= 0.0 else -math.expm1(-1e-3 / smoothing_s)
        self._impedance: controllers.CartesianImpedance | None = None
        self._joints: controllers.JointPosition | None = None
        self._started_s = 0.0  # on the arm's clock
        self._was_moving = False

    def hold(self, panda: panda_py.Panda, pose: Vector7, params: ImpedanceParams) -> None:
        """Hold `pose`, where the arm is, by the impedance law."""
        controller = controllers.CartesianImpedance(
            impedance=impedance_matrix(params),
            damping_ratio=damping_ratio(params),
            nullspace_stiffness=params.nullspace_stiffness_nm_rad,
            filter_coeff=self._share,
        )
        controller.set_control(pose[:3], pose[3:], REST_Q)
        self._launch(panda, controller)
        controller.set_control(pose[:3], pose[3:], REST_Q)
        self._impedance, self._joints = controller, None

    def hold_joints(self, panda: panda_py.Panda, q: Floats) -> None:
        """Hold the joint angles [7] in rad, where the arm is."""
        controller = controllers.JointPosition(filter_coeff=self._share)
        controller.set_control(q, np.zeros(7))
        self._launch(panda, controller)
        self._impedance, self._joints = None, controller

    def pull(self, target: Vector7) -> None:
        """Let the impedance law pull to `target`."""
        if self._impedance is not None:
            self._impedance.set_control(target[:3], target[3:], REST_Q)

    def set_gains(self, params: ImpedanceParams) -> None:
        """Let the impedance law have these gains."""
        if self._impedance is not None:
            self._impedance.set_impedance(impedance_matrix(params))
            self._impedance.set_damping_ratio(damping_ratio(params))
            self._impedance.set_nullspace_stiffness(params.nullspace_stiffness_nm_rad)

    def turn(self, q: Floats, dq: Floats) -> None:
        """Let the joints be at these angles [7] in rad with these speeds [7] in rad/s."""
        if self._joints is not None:
            self._joints.set_control(q, dq)

    def rest(self, pose: Vector7, q: Floats) -> None:
        """Let whatever runs hold the arm where it is: nobody will tell it more."""
        self.pull(pose)
        self.turn(q, np.zeros(7))

    def forget(self) -> None:
        """Tell no controller anything any more."""
        self._impedance = self._joints = None

    def ended(self, is_moving: bool, now_s: float) -> str | None:
        """Return the fault of a controller that no longer runs, or did not begin in time."""
        self._was_moving = self._was_moving or is_moving
        if is_moving or not (self._was_moving or now_s - self._started_s > STARTING_S):
            return None
        return CONTROLLER_ENDED

    def _launch(self, panda: panda_py.Panda, controller: controllers.TorqueController) -> None:
        panda.start_controller(controller)
        self._started_s, self._was_moving = panda.get_state().time.to_sec(), False


def impedance_matrix(params: ImpedanceParams) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the stiffness matrix [6, 6] in N/m and Nm/rad, base frame."""
    linear, angular = params.translational_stiffness_n_m, params.rotational_stiffness_nm_rad
    return np.diag([linear] * 3 + [angular] * 3)


def damping_ratio(params: ImpedanceParams) -> float:
    """Return the ratio that makes the arm's damping, 2 * ratio * sqrt(K), the one asked for in translation."""
    return params.translational_damping_ns_m / (2.0 * math.sqrt(params.translational_stiffness_n_m))
