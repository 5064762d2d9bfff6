"""With the rclpy and message packages of a ROS 2 installation: the driver's node, and every name it counts on.

Collected only where rclpy can be imported (conftest.py); `pytest -m ros2` runs these alone.
"""

import importlib
import threading

import fake_ros
import pytest

from robot_servers.arm_parts.joint_move import JointMove
from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.ros2 import RosNode, names
from robot_servers.ros2.io import ask, fill
from robot_servers.ros2.node import new
from serl_core.robots.messages import ImpedanceParams

pytestmark = pytest.mark.ros2

MESSAGES = {
    names.TARGET_POSE: names.pose_stamped((0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)),
    names.TARGET_WRENCH: names.wrench_stamped((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),
    names.TARGET_JOINT: names.joint_state(fake_ros.JOINTS, REST_Q),
}
REQUESTS = {
    names.SET_PARAMETERS: names.parameters({**names.LAW, **names.gains(ImpedanceParams())}),
    names.SWITCH_CONTROLLER: names.switch(["a"], ["b"]),
    names.SET_LOAD: {"mass": 0.5, "center_of_mass": [0.0] * 3, "load_inertia": [0.0] * 9},
    names.SET_COLLISION: {
        f"{side}_{what}_thresholds_nominal": [20.0] * count
        for side in ("lower", "upper")
        for what, count in (("torque", 7), ("force", 6))
    },
}
GOALS = {
    names.ERROR_RECOVERY: {},
    names.PTP_MOTION: names.ptp_motion(REST_Q, 0.2),
    names.FOLLOW_TRAJECTORY: names.trajectory(fake_ros.JOINTS, JointMove([0.1] * 7, REST_Q, 0.25)),
    names.HAND_MOVE: {"width": 0.08, "speed": 0.05},
    names.HAND_GRASP: {"width": 0.0, "speed": 0.05, "force": 20.0, "epsilon": {"inner": 0.08, "outer": 0.08}},
}


def definition(kind):
    package, group, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.{group}"), name)


@pytest.fixture
def node():
    node = RosNode("serl_test")
    node.start()
    yield node
    node.stop()


@pytest.mark.parametrize("topic", MESSAGES, ids=lambda topic: topic.name)
def test_every_message_takes_the_drivers_fields(topic):
    fill(new(topic.kind), MESSAGES[topic], new)


@pytest.mark.parametrize("service", REQUESTS, ids=lambda service: service.name)
def test_every_request_takes_the_drivers_fields(service):
    fill(definition(service.kind).Request(), REQUESTS[service], new)


@pytest.mark.parametrize("action", GOALS, ids=lambda action: action.name)
def test_every_goal_takes_the_drivers_fields(action):
    fill(definition(action.kind).Goal(), GOALS[action], new)


def test_what_the_node_publishes_it_hears(node):
    heard, came = [], threading.Event()
    node.subscribe(names.TARGET_POSE, lambda message: (heard.append(message), came.set()))
    for _ in range(100):
        node.publish(names.TARGET_POSE, MESSAGES[names.TARGET_POSE])
        if came.wait(0.1):
            break
    assert heard[0].pose.position.x == 0.5
    assert heard[0].header.frame_id == "base"


def test_the_node_calls_a_service(node):
    """Its own parameters: every node offers that service."""
    service = names.SET_PARAMETERS._replace(name="serl_robot_server/set_parameters")
    reply = ask(node, service, names.parameters({"use_sim_time": False}), 10.0)
    assert [result.successful for result in reply.results] == [True]
