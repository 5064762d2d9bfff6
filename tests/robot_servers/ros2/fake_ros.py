"""The message types that the driver names, by their public definitions, and an I/O seam that answers as the nodes do.

Only the fields that the driver reads or writes are there, and those beside them in the same message.
"""

from dataclasses import dataclass, field

from robot_servers.arm_parts.kinematics_panda import REST_Q, hand_pose
from robot_servers.ros2 import names
from robot_servers.ros2.io import fill
from serl_core.geometry import matrix_to_pose

JOINTS = [f"fr3_joint{i}" for i in range(1, 8)]


@dataclass
class Time:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
class Vector3:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@dataclass
class Quaternion:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    w: float = 1.0


@dataclass
class Pose:
    position: Vector3 = field(default_factory=Vector3)
    orientation: Quaternion = field(default_factory=Quaternion)


@dataclass
class PoseStamped:
    header: Header = field(default_factory=Header)
    pose: Pose = field(default_factory=Pose)


@dataclass
class Wrench:
    force: Vector3 = field(default_factory=Vector3)
    torque: Vector3 = field(default_factory=Vector3)


@dataclass
class WrenchStamped:
    header: Header = field(default_factory=Header)
    wrench: Wrench = field(default_factory=Wrench)


@dataclass
class JointState:
    header: Header = field(default_factory=Header)
    name: list = field(default_factory=list)
    position: list = field(default_factory=list)
    velocity: list = field(default_factory=list)
    effort: list = field(default_factory=list)


@dataclass
class Errors:
    joint_reflex: bool = False
    cartesian_reflex: bool = False
    communication_constraints_violation: bool = False


@dataclass
class FrankaRobotState:
    header: Header = field(default_factory=Header)
    measured_joint_state: JointState = field(default_factory=JointState)
    o_f_ext_hat_k: WrenchStamped = field(default_factory=WrenchStamped)
    o_t_ee: PoseStamped = field(default_factory=PoseStamped)
    time: float = 0.0
    robot_mode: int = 2
    current_errors: Errors = field(default_factory=Errors)


@dataclass
class ParameterValue:
    type: int = 0
    bool_value: bool = False
    integer_value: int = 0
    double_value: float = 0.0
    string_value: str = ""


@dataclass
class Parameter:
    name: str = ""
    value: ParameterValue = field(default_factory=ParameterValue)


@dataclass
class SetParametersResult:
    successful: bool = True
    reason: str = ""


@dataclass
class JointTrajectoryPoint:
    positions: list = field(default_factory=list)
    velocities: list = field(default_factory=list)
    accelerations: list = field(default_factory=list)
    effort: list = field(default_factory=list)
    time_from_start: Time = field(default_factory=Time)


@dataclass
class JointTrajectory:
    header: Header = field(default_factory=Header)
    joint_names: list = field(default_factory=list)
    points: list = field(default_factory=list)


@dataclass
class Epsilon:
    inner: float = 0.005
    outer: float = 0.005


class SetParameters:
    @dataclass
    class Request:
        parameters: list = field(default_factory=list)

    @dataclass
    class Response:
        results: list = field(default_factory=list)


class SetLoad:
    @dataclass
    class Request:
        mass: float = 0.0
        center_of_mass: list = field(default_factory=lambda: [0.0] * 3)
        load_inertia: list = field(default_factory=lambda: [0.0] * 9)

    @dataclass
    class Response:
        success: bool = True
        error: str = ""


class SetForceTorqueCollisionBehavior:
    @dataclass
    class Request:
        lower_torque_thresholds_nominal: list = field(default_factory=lambda: [0.0] * 7)
        upper_torque_thresholds_nominal: list = field(default_factory=lambda: [0.0] * 7)
        lower_force_thresholds_nominal: list = field(default_factory=lambda: [0.0] * 6)
        upper_force_thresholds_nominal: list = field(default_factory=lambda: [0.0] * 6)

    @dataclass
    class Response:
        success: bool = True
        error: str = ""


class SwitchController:
    @dataclass
    class Request:
        activate_controllers: list = field(default_factory=list)
        deactivate_controllers: list = field(default_factory=list)
        strictness: int = 0
        activate_asap: bool = False
        timeout: Time = field(default_factory=Time)

    @dataclass
    class Response:
        ok: bool = True
        message: str = ""


class Trigger:
    @dataclass
    class Request:
        pass

    @dataclass
    class Response:
        success: bool = True
        message: str = ""


class ErrorRecovery:
    @dataclass
    class Goal:
        pass


class PTPMotion:
    @dataclass
    class Goal:
        goal_joint_configuration: list = field(default_factory=list)
        maximum_joint_velocities: list = field(default_factory=list)
        goal_tolerance: float = 0.0


class FollowJointTrajectory:
    @dataclass
    class Goal:
        trajectory: JointTrajectory = field(default_factory=JointTrajectory)


class Move:
    @dataclass
    class Goal:
        width: float = 0.0
        speed: float = 0.0


class Grasp:
    @dataclass
    class Goal:
        width: float = 0.0
        epsilon: Epsilon = field(default_factory=Epsilon)
        speed: float = 0.0
        force: float = 0.0


KINDS = {
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/WrenchStamped": WrenchStamped,
    "sensor_msgs/msg/JointState": JointState,
    "franka_msgs/msg/FrankaRobotState": FrankaRobotState,
    "rcl_interfaces/msg/Parameter": Parameter,
    "rcl_interfaces/srv/SetParameters": SetParameters,
    "trajectory_msgs/msg/JointTrajectoryPoint": JointTrajectoryPoint,
    "franka_msgs/srv/SetLoad": SetLoad,
    "franka_msgs/srv/SetForceTorqueCollisionBehavior": SetForceTorqueCollisionBehavior,
    "controller_manager_msgs/srv/SwitchController": SwitchController,
    "std_srvs/srv/Trigger": Trigger,
    "franka_msgs/action/ErrorRecovery": ErrorRecovery,
    "franka_msgs/action/PTPMotion": PTPMotion,
    "control_msgs/action/FollowJointTrajectory": FollowJointTrajectory,
    "franka_msgs/action/Move": Move,
    "franka_msgs/action/Grasp": Grasp,
}


def new(kind):
    return KINDS[kind]()


def robot_state(time_s, q=REST_Q, pose=None):
    """Return the state of an arm at rest."""
    x, y, z, qx, qy, qz, qw = matrix_to_pose(hand_pose(q)) if pose is None else pose
    state = FrankaRobotState(time=time_s)
    joints = state.measured_joint_state
    joints.name, joints.position, joints.velocity = list(JOINTS), list(q), [0.0] * 7
    state.o_t_ee.pose = Pose(Vector3(x, y, z), Quaternion(qx, qy, qz, qw))
    return state


class FakeGoal:
    def __init__(self, io, action, fields, on_end):
        self.action, self.fields, self.on_end, self.is_cancelled = action, fields, on_end, False
        self._io = io

    def cancel(self):
        self.is_cancelled = True


class FakeIo:
    """Implements `robot_servers.ros2.io.RosIo`; services answer at once, goals when a test ends them."""

    def __init__(self):
        self.is_started = False
        self.published = []  # (topic, message)
        self.calls = []  # (service, request)
        self.goals = []
        self.refused = set()  # services that answer with failure
        self.silent = set()  # services that give no answer
        self.lost = set()  # services whose answers never come
        self.ends_at_once = {names.ERROR_RECOVERY}
        self.on_message = {}

    def start(self):
        self.is_started = True

    def stop(self):
        self.is_started = False

    def subscribe(self, topic, on_message):
        self.on_message[topic] = on_message

    def publish(self, topic, fields):
        assert self.is_started
        self.published.append((topic, fill(new(topic.kind), fields, new)))

    def call(self, service, fields, on_reply):
        assert self.is_started
        kind = KINDS[service.kind]
        request = fill(kind.Request(), fields, new)
        self.calls.append((service, request))
        if service in self.lost:
            return
        if service in self.silent:
            on_reply(None)
            return
        reply = kind.Response()
        if isinstance(reply, SetParameters.Response):
            reply.results = [SetParametersResult() for _ in request.parameters]
        if service in self.refused:
            refuse(reply)
        on_reply(reply)

    def send_goal(self, action, fields, on_end):
        assert self.is_started
        goal = FakeGoal(self, action, fill(KINDS[action.kind].Goal(), fields, new), on_end)
        self.goals.append(goal)
        if action in self.ends_at_once:
            on_end(object())
        return goal

    def requests(self, service):
        return [request for each, request in self.calls if each == service]

    def messages(self, topic):
        return [message for each, message in self.published if each == topic]


def refuse(reply):
    for name in ("ok", "success"):
        if hasattr(reply, name):
            setattr(reply, name, False)
    if hasattr(reply, "error"):
        reply.error = "not in this mode"
    for result in getattr(reply, "results", []):
        result.successful = False
