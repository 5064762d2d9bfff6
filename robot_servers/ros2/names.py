"""Every name and type that the driver counts on, in one place.

crisp_controllers: topics and parameters as its Python client crisp_python 3.6.0 and the parameter files in it have
them. franka_ros2: 2.5 with its franka_msgs. Names are relative to the arm's namespace.
"""

from robot_servers.arm_parts.joint_move import JointMove
from robot_servers.arm_parts.kinematics_panda import JOINTS
from robot_servers.ros2.io import Action, Fields, Part, Service, Topic
from serl_core.robots.messages import ImpedanceParams, Vector6, Vector7

# ---- crisp_controllers

CARTESIAN_CONTROLLER = "cartesian_impedance_controller"
TARGET_POSE = Topic("target_pose", "geometry_msgs/msg/PoseStamped")
TARGET_JOINT = Topic("target_joint", "sensor_msgs/msg/JointState")  # of the Cartesian controller: its posture
TARGET_WRENCH = Topic("target_wrench", "geometry_msgs/msg/WrenchStamped")  # base frame
BASE_FRAME = "base"

# What the law must be, whatever file the controller was started with. Its errors are then in the tool frame.
LAW: Fields = {
    "limit_error": True,
    "limit_torques": True,
    "max_delta_tau": 0.5,  # Nm per ms
    "stop_commands": False,
    "use_coriolis_compensation": True,
    "use_gravity_compensation": False,  # the arm's own
    "use_local_jacobian": True,
    "use_operational_space": False,
}

# ---- franka_ros2

ROBOT_STATE = Topic("franka_robot_state_broadcaster/robot_state", "franka_msgs/msg/FrankaRobotState")
SET_LOAD = Service("service_server/set_load", "franka_msgs/srv/SetLoad")
SET_COLLISION = Service(
    "service_server/set_force_torque_collision_behavior", "franka_msgs/srv/SetForceTorqueCollisionBehavior"
)
ERROR_RECOVERY = Action("action_server/error_recovery", "franka_msgs/action/ErrorRecovery")
PTP_MOTION = Action("action_server/ptp_motion", "franka_msgs/action/PTPMotion")
HAND_MOVE = Action("franka_gripper/move", "franka_msgs/action/Move")
HAND_GRASP = Action("franka_gripper/grasp", "franka_msgs/action/Grasp")
HAND_STOP = Service("franka_gripper/stop", "std_srvs/srv/Trigger")
HAND_JOINTS = Topic("franka_gripper/joint_states", "sensor_msgs/msg/JointState")

# ---- ros2_control

SWITCH_CONTROLLER = Service("controller_manager/switch_controller", "controller_manager_msgs/srv/SwitchController")
BEST_EFFORT, STRICT = 1, 2  # of its `strictness`
TRAJECTORY_CONTROLLER = "joint_trajectory_controller"
FOLLOW_TRAJECTORY = Action(
    f"{TRAJECTORY_CONTROLLER}/follow_joint_trajectory", "control_msgs/action/FollowJointTrajectory"
)
TRAJECTORY_POINT = "trajectory_msgs/msg/JointTrajectoryPoint"

# ---- parameters over the wire: rcl_interfaces

SET_PARAMETERS = Service(f"{CARTESIAN_CONTROLLER}/set_parameters", "rcl_interfaces/srv/SetParameters")
PARAMETER = "rcl_interfaces/msg/Parameter"
_BOOL, _DOUBLE = 1, 3  # of rcl_interfaces/msg/ParameterType


def gains(params: ImpedanceParams) -> dict[str, float]:
    """Return the Cartesian controller's parameters for `params`.

    Its rotational error is the full angle t, ours sin(t/2): half the stiffness, twice the clip, the same damping. Its
    clips are one per axis and in the tool frame; the driver clips by axis and sign in the base frame in each of its
    ticks, so that these only bound what happens between two of them: the largest of each kind.
    """
    angular, turning = params.rotational_stiffness_nm_rad / 2.0, params.rotational_damping_nms_rad
    clip_m, clip_rad = max(params.translational_clip_m), 2.0 * max(params.rotational_clip_rad)
    values = {"nullspace.stiffness": params.nullspace_stiffness_nm_rad}
    for axis in "xyz":
        values[f"task.k_pos_{axis}"] = params.translational_stiffness_n_m
        values[f"task.d_pos_{axis}"] = params.translational_damping_ns_m
        values[f"task.k_rot_{axis}"] = angular
        values[f"task.d_rot_{axis}"] = turning
        values[f"task.error_clip.{axis}"] = clip_m
        values[f"task.error_clip.r{axis}"] = clip_rad
    return values


def parameters(values: Fields) -> Fields:
    """Return the request that sets parameters."""
    return {"parameters": [Part(PARAMETER, {"name": name, "value": _value(value)}) for name, value in values.items()]}


def pose_stamped(pose: Vector7) -> Fields:
    """Return a target pose."""
    x, y, z, qx, qy, qz, qw = pose
    return {
        "header": {"frame_id": BASE_FRAME},
        "pose": {"position": {"x": x, "y": y, "z": z}, "orientation": {"x": qx, "y": qy, "z": qz, "w": qw}},
    }


def wrench_stamped(wrench: Vector6) -> Fields:
    """Return a target wrench, base frame."""
    fx, fy, fz, tx, ty, tz = wrench
    return {
        "header": {"frame_id": BASE_FRAME},
        "wrench": {"force": {"x": fx, "y": fy, "z": fz}, "torque": {"x": tx, "y": ty, "z": tz}},
    }


def joint_state(names: list[str], q: Vector7) -> Fields:
    """Return a target of the joints, at rest."""
    rest = [0.0] * len(names)
    return {"header": {"frame_id": BASE_FRAME}, "name": names, "position": list(q), "velocity": rest, "effort": rest}


def switch(activate: list[str], deactivate: list[str], strictness: int = STRICT) -> Fields:
    """Return the request that switches controllers."""
    return {
        "activate_controllers": activate,
        "deactivate_controllers": deactivate,
        "strictness": strictness,
        "activate_asap": True,
        "timeout": {"sec": 2, "nanosec": 0},
    }


def trajectory(joints: list[str], move: JointMove, points: int = 50) -> Fields:
    """Return the goal that sends the arm along `move`."""
    times = [move.duration_s * (i + 1) / points for i in range(points)]
    return {"trajectory": {"joint_names": joints, "points": [Part(TRAJECTORY_POINT, _point(move, t)) for t in times]}}


def ptp_motion(goal_rad: Vector7, speed_rad_s: float) -> Fields:
    """Return the goal of the arm's own point-to-point motion."""
    return {
        "goal_joint_configuration": list(goal_rad),
        "maximum_joint_velocities": [speed_rad_s] * JOINTS,
        "goal_tolerance": 0.005,  # rad
    }


def _point(move: JointMove, time_s: float) -> Fields:
    q, dq = move.at(time_s)
    seconds = int(time_s)
    since = {"sec": seconds, "nanosec": int(1e9 * (time_s - seconds))}
    return {"positions": q.tolist(), "velocities": dq.tolist(), "time_from_start": since}


def _value(value: bool | float) -> Fields:
    if isinstance(value, bool):
        return {"type": _BOOL, "bool_value": value}
    return {"type": _DOUBLE, "double_value": float(value)}
