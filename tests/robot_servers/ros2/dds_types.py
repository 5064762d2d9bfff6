"""ROS 2 messages as DDS types, and how ROS 2 names both on the wire.

A topic t of ROS is the DDS topic rt/t; a type p/msg/T is p::msg::dds_::T_. Messages are plain CDR, version 1. The
definitions of the common packages are long since fixed; those of franka_msgs are written down from its public ones,
and were not compared with an installed package.
"""

from dataclasses import dataclass, field

from cyclonedds.core import Policy, Qos
from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as idl
from cyclonedds.idl.annotations import final
from panda_py import libfranka

LOOPBACK_ONLY = """<CycloneDDS><Domain Id="any">
<General><Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>
<AllowMulticast>false</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>20</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""
DOMAIN = 77

# What rmw makes of a profile of depth 1, and of sensor data.
RELIABLE = Qos(Policy.Reliability.Reliable(10**8), Policy.Durability.Volatile, Policy.History.KeepLast(1))
SENSOR_DATA = Qos(Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(5))

# One message per line, as in its .msg file; a type without a package is of the message's own.
DEFINITIONS = f"""
builtin_interfaces/Time: int32 sec; uint32 nanosec
std_msgs/Header: builtin_interfaces/Time stamp; string frame_id
geometry_msgs/Vector3: float64 x; float64 y; float64 z
geometry_msgs/Point: float64 x; float64 y; float64 z
geometry_msgs/Quaternion: float64 x; float64 y; float64 z; float64 w
geometry_msgs/Pose: Point position; Quaternion orientation
geometry_msgs/PoseStamped: std_msgs/Header header; Pose pose
geometry_msgs/Wrench: Vector3 force; Vector3 torque
geometry_msgs/WrenchStamped: std_msgs/Header header; Wrench wrench
geometry_msgs/Twist: Vector3 linear; Vector3 angular
geometry_msgs/TwistStamped: std_msgs/Header header; Twist twist
geometry_msgs/Accel: Vector3 linear; Vector3 angular
geometry_msgs/AccelStamped: std_msgs/Header header; Accel accel
geometry_msgs/Inertia: float64 m; Vector3 com; float64 ixx; float64 ixy; float64 ixz; float64 iyy; float64 iyz; \
float64 izz
geometry_msgs/InertiaStamped: std_msgs/Header header; Inertia inertia
sensor_msgs/JointState: std_msgs/Header header; string[] name; float64[] position; float64[] velocity; float64[] effort
franka_msgs/CollisionIndicators: geometry_msgs/Vector3 is_cartesian_linear_collision; \
geometry_msgs/Vector3 is_cartesian_angular_collision; geometry_msgs/Vector3 is_cartesian_linear_contact; \
geometry_msgs/Vector3 is_cartesian_angular_contact; float64[7] is_joint_collision; float64[7] is_joint_contact
franka_msgs/Elbow: float64[2] position; float64[2] desired_position; float64[2] commanded_position; \
float64[2] commanded_velocity; float64[2] commanded_acceleration
franka_msgs/Errors: {"; ".join(f"bool {name}" for name in vars(libfranka.Errors) if not name.startswith("_"))}
franka_msgs/FrankaRobotState: std_msgs/Header header; CollisionIndicators collision_indicators; \
sensor_msgs/JointState measured_joint_state; sensor_msgs/JointState desired_joint_state; \
sensor_msgs/JointState measured_joint_motor_state; float64[7] ddq_d; float64[7] dtau_j; \
sensor_msgs/JointState tau_ext_hat_filtered; Elbow elbow; geometry_msgs/WrenchStamped k_f_ext_hat_k; \
geometry_msgs/WrenchStamped o_f_ext_hat_k; geometry_msgs/InertiaStamped inertia_ee; \
geometry_msgs/InertiaStamped inertia_load; geometry_msgs/InertiaStamped inertia_total; \
geometry_msgs/PoseStamped o_t_ee; geometry_msgs/PoseStamped o_t_ee_d; geometry_msgs/PoseStamped o_t_ee_c; \
geometry_msgs/PoseStamped f_t_ee; geometry_msgs/PoseStamped ee_t_k; geometry_msgs/TwistStamped o_dp_ee_d; \
geometry_msgs/TwistStamped o_dp_ee_c; geometry_msgs/AccelStamped o_ddp_ee_c; float64 time; \
float64 control_command_success_rate; uint8 robot_mode; Errors current_errors; Errors last_motion_errors
"""

_PLAIN = {
    "int32": (idl.int32, 0),
    "uint32": (idl.uint32, 0),
    "uint8": (idl.uint8, 0),
    "float64": (idl.float64, 0.0),
    "string": (str, ""),
    "bool": (bool, False),
}


def _types():
    """Return the classes, by names such as ``geometry_msgs/msg/Pose``."""
    kinds = {}
    for line in DEFINITIONS.strip().splitlines():
        full_name, fields = line.split(": ")
        package, name = full_name.split("/")
        annotations, defaults = {}, {}
        for each in fields.split("; "):
            kind, member = each.split(" ")
            annotations[member], defaults[member] = _member(kind, package, kinds)
        meta = type(IdlStruct)
        contents = meta.__prepare__(name, (IdlStruct,), typename=f"{package}::msg::dds_::{name}_")
        contents["__annotations__"].update(annotations)
        made = meta(name, (IdlStruct,), contents | defaults)
        kinds[f"{package}/msg/{name}"] = dataclass(final(made))
    return kinds


def _member(kind, package, kinds):
    element, _, count = kind.rstrip("]").partition("[")
    if element not in _PLAIN:
        made = kinds[f"{package}/msg/{kind}" if "/" not in kind else kind.replace("/", "/msg/")]
        return made, field(default_factory=made)
    plain, default = _PLAIN[element]
    if not kind.endswith("]"):
        return plain, default
    if count:
        return idl.array[plain, int(count)], field(default_factory=lambda: [default] * int(count))
    return idl.sequence[plain], field(default_factory=list)


KINDS = _types()
PoseStamped, WrenchStamped = KINDS["geometry_msgs/msg/PoseStamped"], KINDS["geometry_msgs/msg/WrenchStamped"]
JointState, FrankaRobotState = KINDS["sensor_msgs/msg/JointState"], KINDS["franka_msgs/msg/FrankaRobotState"]


def on_wire(topic):
    """Return the DDS name of a ROS topic in no namespace."""
    return f"rt/{topic.name}"
