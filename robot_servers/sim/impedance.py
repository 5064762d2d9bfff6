"""The Cartesian impedance law of REFERENCE section 4, and the limits every torque passes (SAFETY 1.4.5).

One call per 1 ms tick: arrays are preallocated, and vectors of three are plain floats, because numpy's
call overhead would be most of the tick.
"""

import math

import numpy as np
from numpy.typing import NDArray

from robot_servers.arm_parts.target_filter import TargetFilter
from robot_servers.backend import Reference
from robot_servers.rotations import half_turn, rotated
from robot_servers.sim.gains import RampedGains
from robot_servers.sim.kinematics import JOINTS
from robot_servers.sim.model import PERIOD_S, REST_Q
from serl_core.robots.messages import ImpedanceParams

Floats = NDArray[np.float64]

TORQUE_LIMIT_NM = (86.0, 86.0, 86.0, 86.0, 11.5, 11.5, 11.5)
TORQUE_STEP_NM = 0.5  # per tick; the arm itself stops at 1.0
PROJECTOR_TICKS = 10  # the null space is computed anew every 10 ms: the arm turns by less than 0.02 rad
PROJECTOR_DAMPING = 1e-5


class TorqueLimiter:
    """What stands between a control law and the motors: rate limit, clamp and a check for non-finite values.

    The rate limit applies to the law's torque, the clamp to its sum with the arm's own compensation.
    """

    def __init__(self, step_nm: float = TORQUE_STEP_NM) -> None:
        self.numeric_fault = False  # latched: a non-finite value came
        self._step = step_nm
        self._limit = np.array(TORQUE_LIMIT_NM)
        self._law = np.zeros(JOINTS)
        self._total = np.zeros(JOINTS)
        self._change = np.zeros(JOINTS)

    def restart(self, law_nm: Floats, compensation_nm: Floats) -> None:
        """Take these torques [7] as the previous ones: the arm was put where they are the right ones."""
        self._law[:] = law_nm
        self.apply(law_nm, compensation_nm)

    def apply(self, law_nm: Floats, compensation_nm: Floats) -> Floats:
        """Return the motors' torque [7] in Nm (a view): the previous one when anything is not finite."""
        if not math.isfinite(sum(law_nm.tolist()) + sum(compensation_nm.tolist())):
            return self.repeat()
        change = np.subtract(law_nm, self._law, out=self._change)
        np.minimum(change, self._step, out=change)
        np.maximum(change, -self._step, out=change)
        self._law += change
        total = np.add(self._law, compensation_nm, out=self._total)
        np.minimum(total, self._limit, out=total)
        return np.maximum(total, -self._limit, out=total)

    def repeat(self) -> Floats:
        """Latch the numeric fault and return the previous torque."""
        self.numeric_fault = True
        return self._total


class ImpedanceLaw:
    """F = K clip(e) - D J dq + Ki integral + R w; tau = J^T F + null-space posture torque.

    e is the position error and the vector part of the error quaternion (half the angle), base frame,
    each axis clipped per sign. Spring and integral together stay within K * clip, so that and the
    feed-forward wrench w, if there is one, bound the force on any contact. The reference's pose passes a
    first-order filter, slerp for its rotation.
    """

    def __init__(self, params: ImpedanceParams, *, target_filter_s: float = 0.02) -> None:
        """Store the gains; `restart` must come before the first `torque`.

        Args:
            params: gains and clips, checked by the safety kernel.
            target_filter_s: time constant of the reference's filter; 0 for none.
        """
        self.target = TargetFilter(target_filter_s)
        self.gains = RampedGains(params)
        self._integral = [0.0] * 6
        self._ticks = 0
        self._rest = np.array(REST_Q)
        self._twist = np.zeros(6)
        self._force = np.zeros(6)
        self._posture = np.zeros(JOINTS)
        self._damping = np.zeros(JOINTS)
        self._torque = np.zeros(JOINTS)
        self._identity = np.eye(JOINTS)
        self._projector = np.eye(JOINTS)

    def restart(self, position_m: Floats, quaternion: Floats) -> None:
        """Hold `position_m` [3] and `quaternion` [4] xyzw from now on: filter there, integral zero."""
        px, py, pz = position_m.tolist()
        self.target.restart((px, py, pz, *quaternion.tolist()))
        self._integral = [0.0] * 6
        self._ticks = 0

    def follow(self, reference: Reference) -> bool:
        """Move the filtered reference on by one tick; False, and nothing moves, if `reference` is not finite."""
        return self.target.follow(reference, PERIOD_S)

    def torque(
        self,
        position_m: Floats,
        quaternion: Floats,
        q: Floats,
        dq: Floats,
        jacobian: Floats,
        wrench: Floats | None = None,
    ) -> Floats:
        """Return the torque [7] in Nm (a view), without the arm's own compensation of gravity and Coriolis.

        Args:
            position_m: measured, base frame [3].
            quaternion: measured, xyzw [4].
            q: joint angles in rad [7].
            dq: joint speeds in rad/s [7].
            jacobian: of the tool centre point, base frame [6, 7].
            wrench: feed-forward, tool frame [6].
        """
        x, y, z = position_m.tolist()
        to_x, to_y, to_z, *turn = self.target.pose
        error = (to_x - x, to_y - y, to_z - z, *half_turn(turn, quaternion.tolist()))
        twist = np.matmul(jacobian, dq, out=self._twist).tolist()
        force = []
        for axis, (stiffness, damping, ki, most_down, most_up) in enumerate(self.gains.axes):
            spring = stiffness * error[axis] + ki * self._integral[axis]
            if spring > most_up:
                spring = most_up
            elif spring < -most_down:
                spring = -most_down
            elif ki and math.isfinite(spring):
                self._integral[axis] += error[axis] * PERIOD_S  # only inside the clip: no wind-up
            force.append(spring - damping * twist[axis])
        self._force[:] = force
        if wrench is not None:
            tool, push = quaternion.tolist(), wrench.tolist()
            self._force += (*rotated(tool, push[:3]), *rotated(tool, push[3:]))
        torque = np.matmul(self._force, jacobian, out=self._torque)
        torque += self._posture_torque(q, dq, jacobian)
        return torque

    def _posture_torque(self, q: Floats, dq: Floats, jacobian: Floats) -> Floats:
        """Return a critically damped pull to the rest posture, projected so that the tool does not feel it."""
        if self._ticks % PROJECTOR_TICKS == 0:
            gram = jacobian @ jacobian.T
            gram.flat[::7] += PROJECTOR_DAMPING
            np.subtract(self._identity, jacobian.T @ np.linalg.solve(gram, jacobian), out=self._projector)
        self._ticks += 1
        stiffness = self.gains.nullspace_nm_rad
        pull = np.subtract(self._rest, q, out=self._posture)
        pull *= stiffness
        pull -= np.multiply(dq, 2.0 * math.sqrt(stiffness), out=self._damping)
        return np.matmul(self._projector, pull, out=self._damping)
