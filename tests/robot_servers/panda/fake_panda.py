"""A stand-in for panda-python: classes of the same signatures (test_panda_signatures.py) around a floating tool.

Its arm follows what its controller was told with a lag, and, as the real library, clears every error whenever a
controller is started.
"""

import time

import numpy as np
from panda_py import constants, libfranka
from scipy.spatial.transform import Rotation

from robot_servers.arm_parts.kinematics_panda import REST_Q, hand_pose, jacobian

LAG_S = 0.02


class FakeErrors:
    """libfranka's errors of one arm."""

    def __init__(self, name=None):
        self._name = name

    def __bool__(self):
        return self._name is not None

    def __repr__(self):
        return f"[{self._name!r}]" if self._name else "[]"


class FakeArm:
    """What happens behind the library."""

    def __init__(self):
        self.calls = []  # in order: (what, ...)
        self.controller = None
        self.mode = libfranka.RobotMode.kIdle
        self.errors = FakeErrors()
        self.is_connected = True
        self.is_frozen = False  # sends the same state for ever
        self.follows = True
        self.q = np.array(REST_Q)
        self.matrix = hand_pose(REST_Q)
        self.force_on_world = [0.0] * 6
        self.low, self.high = constants.JOINT_LIMITS_LOWER, constants.JOINT_LIMITS_UPPER
        self.stays_in_reflex = False
        self._time_s = time.monotonic()

    @property
    def pose(self):
        x, y, z = self.matrix[:3, 3]
        return (x, y, z, *Rotation.from_matrix(self.matrix[:3, :3]).as_quat())

    def reflex(self, name="cartesian_reflex", mode=libfranka.RobotMode.kReflex):
        """End any motion, as the arm does by itself."""
        self.mode, self.errors, self.controller = mode, FakeErrors(name), None

    def step(self):
        if not self.is_connected:
            raise RuntimeError("libfranka: UDP receive: Timeout")
        if self.is_frozen:
            return
        now_s = time.monotonic()
        share, self._time_s = min(1.0, (now_s - self._time_s) / LAG_S), now_s
        if self.follows and self.controller is not None:
            self.controller.move(self, share)

    def time_s(self):
        return self._time_s

    def named(self, what):
        return [call for call in self.calls if call[0] == what]


class Duration:
    def __init__(self, seconds):
        self._seconds = seconds

    def to_sec(self):
        return self._seconds


class RobotState:
    def __init__(self, arm):
        self.O_T_EE = arm.matrix.T.reshape(16).tolist()
        self.O_F_ext_hat_K = list(arm.force_on_world)
        self.q = arm.q.tolist()
        self.dq = [0.0] * 7
        self.time = Duration(arm.time_s())
        self.robot_mode = arm.mode
        self.current_errors = arm.errors
        self.last_motion_errors = arm.errors


class Model:
    def zero_jacobian(self, frame, robot_state):
        assert frame == libfranka.Frame.kEndEffector
        matrix = np.array(robot_state.O_T_EE).reshape(4, 4).T
        return jacobian(robot_state.q, matrix[:3, 3]).T.reshape(42).tolist()


class Robot:
    def __init__(self, arm):
        self._arm = arm

    def set_collision_behavior(
        self, lower_torque_thresholds, upper_torque_thresholds, lower_force_thresholds, upper_force_thresholds
    ):
        self._arm.calls.append(
            ("collision", lower_torque_thresholds, upper_torque_thresholds, lower_force_thresholds,
             upper_force_thresholds)
        )  # fmt: skip

    def set_load(self, load_mass, F_x_Cload, load_inertia):
        if self._arm.controller is not None:
            raise RuntimeError("libfranka: Set Load command rejected: command not possible in the current mode")
        self._arm.calls.append(("load", load_mass, F_x_Cload, load_inertia))


class Panda:
    arm = None  # a test's

    def __init__(self, hostname, name="panda", realtime_config=libfranka.RealtimeConfig.kIgnore):
        self.arm.calls.append(("connect", hostname, realtime_config))

    def refresh_state(self):
        self.arm.step()

    def get_state(self):
        return RobotState(self.arm)

    def is_moving(self):
        return self.arm.controller is not None

    def get_model(self):
        return Model()

    def get_robot(self):
        return Robot(self.arm)

    def get_joint_limits_lower(self):
        return self.arm.low

    def get_joint_limits_upper(self):
        return self.arm.high

    def start_controller(self, controller):
        arm = self.arm
        arm.mode, arm.errors = libfranka.RobotMode.kMove, FakeErrors()
        arm.controller = controller
        arm.calls.append(("start", controller))

    def stop_controller(self):
        arm = self.arm
        if arm.controller is not None:
            arm.controller, arm.mode = None, libfranka.RobotMode.kIdle
            arm.calls.append(("stop",))

    def recover(self):
        self.arm.calls.append(("recover",))
        if not self.arm.stays_in_reflex:
            self.arm.mode, self.arm.errors = libfranka.RobotMode.kIdle, FakeErrors()


class CartesianImpedance:
    def __init__(self, impedance=None, damping_ratio=1.0, nullspace_stiffness=0.5, filter_coeff=1.0):
        self.impedances, self.ratios, self.postures = [impedance], [damping_ratio], [nullspace_stiffness]
        self.filter_coeff = filter_coeff
        self.targets = []  # (position, orientation, q_nullspace)

    def set_control(self, position, orientation, q_nullspace=None):
        self.targets.append((np.array(position), np.array(orientation), np.array(q_nullspace)))

    def set_impedance(self, impedance):
        self.impedances.append(impedance)

    def set_damping_ratio(self, damping):
        self.ratios.append(damping)

    def set_nullspace_stiffness(self, nullspace_stiffness):
        self.postures.append(nullspace_stiffness)

    def move(self, arm, share):
        position, orientation, _ = self.targets[-1]
        at, to = Rotation.from_matrix(arm.matrix[:3, :3]), Rotation.from_quat(orientation)
        matrix = np.eye(4)
        matrix[:3, :3] = (Rotation.from_rotvec(share * (to * at.inv()).as_rotvec()) * at).as_matrix()
        matrix[:3, 3] = arm.matrix[:3, 3] + share * (position - arm.matrix[:3, 3])
        arm.matrix = matrix


class JointPosition:
    def __init__(self, stiffness=None, damping=None, filter_coeff=1.0):
        self.filter_coeff = filter_coeff
        self.targets = []  # (position, velocity)

    def set_control(self, position, velocity=None):
        self.targets.append((np.array(position), np.array(velocity)))

    def move(self, arm, share):
        arm.q = arm.q + share * (self.targets[-1][0] - arm.q)
        arm.matrix = hand_pose(arm.q.tolist())
