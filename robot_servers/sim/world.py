"""The physics: one scene, its arm and what the hand holds, advanced tick by tick under joint torques.

Between ticks everything that depends on positions and velocities (poses, Jacobian, contacts, the
compensation torque) is that of the present instant, so a reading is consistent in itself.
"""

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.kinematics import JOINTS, inverse
from robot_servers.sim.model import (
    FINGER_STROKE_M,
    GRAVITY_M_S2,
    GRIPPER_FORCE_N,
    HAND_TURN_RAD,
    PERIOD_S,
    TCP_OFFSET_M,
)
from robot_servers.sim.scenes import Scene
from serl_core.errors import RobotError
from serl_core.robots.messages import SimTruth, Vector3, Vector7

Floats = NDArray[np.float64]

WRENCH_FILTER_S = 0.02  # first order, in place of the smoothing inside the arm's own estimate
PENETRATION_M = 0.0005  # a start pose deeper inside something than this is refused
GRIPPER_SPEED_M_S = 0.1
RELEASE_M = 0.001  # the hand lets go of the object when it is this much wider


class World:
    """A scene under way. The public arrays are views: they change with the next tick.

    Attributes:
        q: joint angles in rad [7].
        dq: joint speeds in rad/s [7].
        jacobian: of the tool centre point, base frame [6, 7].
        position_m: of the tool centre point, base frame [3].
        wrench: what the world exerts on the robot and what it holds, from the contact forces, low-passed;
            base frame, at the tool centre point [6]. Zero in free space: the load is known.
        torque_nm: applied to the joints in the newest step [7].
    """

    def __init__(self, scene: Scene) -> None:
        model = scene.model
        self.scene = scene
        self._model = model
        self._data = data = mujoco.MjData(model)
        self._site, self._hand = model.site("tcp").id, model.body("hand").id
        self._object, self._grasp = model.body("object").id, model.equality("grasp").id
        self._robot = slice(model.body("link1").id, model.body("right_finger").id + 1)
        self._root = model.body("link0").id
        self._full_jacobian = np.zeros((6, model.nv))
        self.q: Floats = data.qpos[:JOINTS]
        self.dq: Floats = data.qvel[:JOINTS]
        self.jacobian: Floats = self._full_jacobian[:, :JOINTS]
        self.position_m: Floats = data.site_xpos[self._site]
        self.wrench: Floats = np.zeros(6)
        self._hand_quaternion: Floats = data.xquat[self._hand]  # wxyz
        self._hand_rotation: Floats = data.xmat[self._hand].reshape(3, 3)
        self.torque_nm: Floats = data.qfrc_applied[:JOINTS]
        self._bias: Floats = data.qfrc_bias[:JOINTS]
        self._fingers: Floats = data.qpos[JOINTS : JOINTS + 2]
        self._finger_goal_m = 0.0
        self._finger_step_m = 0.0
        self._wrench_share = -math.expm1(-PERIOD_S / WRENCH_FILTER_S)
        self._load_weight_n = GRAVITY_M_S2 * float(model.body_mass[self._object])
        self._load_lever_m: Floats = np.array(scene.object_in_hand_m) - (0.0, 0.0, TCP_OFFSET_M)  # hand's frame
        self._load_wrench = np.zeros(6)

    def place(self, pose: Vector7, random: np.random.Generator) -> None:
        """Put the tool at `pose`, at rest, the object in the hand and all else as the scene begins.

        Raises:
            RobotError: the arm cannot reach the pose, or the tool would stand inside something.
        """
        model, scene = self._model, self.scene
        variation = np.array(scene.grasp_variation_m)
        in_hand = np.array(scene.object_in_hand_m) + random.uniform(-variation, variation)
        finger = scene.object_width_m / 2
        data = mujoco.MjData(model)
        data.qpos[:JOINTS] = inverse(model, pose)
        data.qpos[JOINTS : JOINTS + 2] = data.ctrl[:] = finger
        mujoco.mj_kinematics(model, data)
        address = model.jnt_qposadr[model.body_jntadr[self._object]]
        data.qpos[address : address + 3] = data.xpos[self._hand] + data.xmat[self._hand].reshape(3, 3) @ in_hand
        data.qpos[address + 3 : address + 7] = data.xquat[self._hand]
        mujoco.mj_fwdPosition(model, data)
        depth_m = -min(data.contact.dist, default=0.0)
        if depth_m > PENETRATION_M:
            numbers = ", ".join(f"{value:.4g}" for value in pose)
            raise RobotError(
                f"pose ({numbers}): there the tool is {1e3 * depth_m:.1f} mm inside something; give a free pose",
                status=422,
                field="pose",
            )
        model.eq_data[self._grasp][3:6] = in_hand
        mujoco.mj_copyData(self._data, model, data)
        self.move_gripper(finger / FINGER_STROKE_M, GRIPPER_SPEED_M_S, GRIPPER_FORCE_N)
        self.wrench[:] = 0.0
        self._refresh()

    def step(self, torque_nm: Floats) -> None:
        """Advance by one tick under joint torques [7] in Nm."""
        self.torque_nm[:] = torque_nm
        if self._data.ctrl[0] != self._finger_goal_m:
            self._move_fingers()
        mujoco.mj_step2(self._model, self._data)
        self._measure_wrench()
        self._refresh()

    def _refresh(self) -> None:
        mujoco.mj_step1(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._full_jacobian[:3], self._full_jacobian[3:], self._site)

    def configuration(self) -> Floats:
        """Return MuJoCo's qpos, all that a picture depends on (a copy)."""
        return self._data.qpos.copy()

    def quaternion(self) -> Floats:
        """Return the tool's orientation, xyzw (a copy)."""
        w, x, y, z = self._hand_quaternion.tolist()
        return np.array([x, y, z, w])

    def compensation(self) -> Floats:
        """Return the torque [7] that balances gravity, Coriolis and the known load (a copy)."""
        x, y, _ = (self._hand_rotation @ self._load_lever_m).tolist()
        weight = self._load_weight_n
        self._load_wrench[:] = (0.0, 0.0, weight, y * weight, -x * weight, 0.0)
        torque: Floats = self._load_wrench @ self.jacobian
        torque += self._bias
        return torque

    def set_load(self, mass_kg: float, center_m: Vector3) -> None:
        """Set the load that the arm compensates, its centre in the flange's frame; the physics stays as it is."""
        cosine, sine = math.cos(-HAND_TURN_RAD), math.sin(-HAND_TURN_RAD)
        x, y, z = center_m
        self._load_weight_n = GRAVITY_M_S2 * mass_kg
        self._load_lever_m = np.array([cosine * x - sine * y, sine * x + cosine * y, z - TCP_OFFSET_M])

    def _measure_wrench(self) -> None:
        data = self._data
        change = -self.wrench
        if data.ncon:
            mujoco.mj_rnePostConstraint(self._model, data)
            change += self._at_tool(data.cfrc_ext[self._robot].sum(axis=0), data.subtree_com[self._root])
            if data.eq_active[self._grasp]:
                change += self._at_tool(data.cfrc_ext[self._object], data.subtree_com[self._object])
        self.wrench += self._wrench_share * change

    def _at_tool(self, torque_force: Floats, point_m: Floats) -> Floats:
        """Return MuJoCo's (torque, force) about a point as our (force, torque) about the tool centre point."""
        tx, ty, tz, fx, fy, fz = torque_force.tolist()
        x, y, z = (point_m - self.position_m).tolist()
        return np.array([fx, fy, fz, tx + y * fz - z * fy, ty + z * fx - x * fz, tz + x * fy - y * fx])

    def move_gripper(self, opening: float, speed_m_s: float, force_n: float) -> None:
        """Start moving the fingers to `opening`, 0 closed .. 1 open. They close no further than the held object."""
        goal = opening * FINGER_STROKE_M
        if self._data.eq_active[self._grasp]:
            goal = max(goal, self.scene.object_width_m / 2)
        self._finger_goal_m = goal
        self._finger_step_m = speed_m_s * PERIOD_S
        self._model.actuator_forcerange[:] = (-force_n, force_n)

    def _move_fingers(self) -> None:
        data, step = self._data, self._finger_step_m
        command = float(data.ctrl[0])
        command += min(max(self._finger_goal_m - command, -step), step)
        data.ctrl[:] = command
        if 2 * command > self.scene.object_width_m + RELEASE_M:
            data.eq_active[self._grasp] = 0

    def opening(self) -> float:
        """Return how far the hand is open: 0 closed .. 1 open."""
        return min(max(float(self._fingers.sum()) / (2 * FINGER_STROKE_M), 0.0), 1.0)

    def truth(self) -> SimTruth:
        """Return how the task stands."""
        position, (w, x, y, z) = self._data.xpos[self._object], self._data.xquat[self._object].tolist()
        return SimTruth(
            is_success=self.scene.is_success(position, self._data.xmat[self._object].reshape(3, 3)),
            object_pose=(*position.tolist(), x, y, z, w),
            target_pose=self.scene.object_target_pose,
        )
