import subprocess
import sys
import threading

import fake_rclpy
import fake_ros
import pytest

from robot_servers.ros2 import RosNode, names
from robot_servers.ros2.io import ask, perform
from serl_core.errors import ConfigError, RobotError

POSE = (0.5, 0.1, 0.3, 1.0, 0.0, 0.0, 0.0)


@pytest.fixture
def ros(monkeypatch):
    monkeypatch.setattr("robot_servers.ros2.node.DISCOVERY_S", 0.01)
    return fake_rclpy.install(monkeypatch)


@pytest.fixture
def node(ros):
    node = RosNode("left_arm")
    node.start()
    yield node
    node.stop()


def test_importing_the_driver_imports_no_part_of_ros():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('rclpy', 'geometry_msgs', 'franka_msgs'))); "
        "from robot_servers.ros2 import Ros2Backend, RosNode; RosNode('left'); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"


def test_without_ros_it_says_where_rclpy_comes_from(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(ConfigError, match=r"no Python module 'rclpy'.*setup\.bash.*docs/how-to/ros2\.md"):
        RosNode().start()


def test_a_missing_message_package_is_named(ros, node, monkeypatch):
    monkeypatch.setitem(sys.modules, "franka_msgs.msg", None)
    with pytest.raises(ConfigError, match=r"no Python module 'franka_msgs\.msg'"):
        node.subscribe(names.ROBOT_STATE, print)


def test_the_node_is_in_its_namespace_and_leaves_signals_to_the_server(ros, node):
    (made,) = ros.nodes
    assert (made.name, made.namespace) == ("serl_robot_server", "left_arm")
    assert ros.init_arguments == ([], "no handlers")


def test_a_published_message_has_its_fields_and_the_present_time(ros, node):
    for _ in range(2):
        node.publish(names.TARGET_POSE, names.pose_stamped(POSE))
    publisher = ros.nodes[0].publishers["target_pose"]
    assert publisher.kind is fake_ros.PoseStamped
    first, second = publisher.messages
    assert first == second
    assert first.header == fake_ros.Header(fake_ros.Time(12, 34), "base")
    assert first.pose == fake_ros.Pose(fake_ros.Vector3(0.5, 0.1, 0.3), fake_ros.Quaternion(1.0, 0.0, 0.0, 0.0))


def test_a_subscription_takes_whatever_quality_its_publisher_offers(ros, node):
    heard = []
    node.subscribe(names.ROBOT_STATE, heard.append)
    kind, callback, qos = ros.nodes[0].subscriptions["franka_robot_state_broadcaster/robot_state"]
    callback("state")
    assert (kind, qos, heard) == (fake_ros.FrankaRobotState, "sensor data", ["state"])


def test_a_service_is_asked_and_its_reply_comes_on_the_nodes_thread(ros, node):
    requests, threads = [], []
    ros.services["controller_manager/switch_controller"] = lambda request: (
        requests.append(request) or fake_ros.SwitchController.Response(ok=True)
    )
    done = threading.Event()
    node.call(
        names.SWITCH_CONTROLLER,
        names.switch(["a"], ["b"]),
        lambda reply: (threads.append((threading.current_thread().name, reply.ok)), done.set()),
    )
    assert done.wait(10.0)
    assert threads == [("ros2-node", True)]
    timeout = fake_ros.Time(2, 0)
    assert requests == [fake_ros.SwitchController.Request(["a"], ["b"], names.STRICT, True, timeout)]
    assert ask(node, names.SWITCH_CONTROLLER, names.switch([], []), 10.0).ok


def test_parameters_are_messages_in_a_list(ros, node):
    requests = []
    ros.services["cartesian_impedance_controller/set_parameters"] = lambda request: (
        requests.append(request) or fake_ros.SetParameters.Response([fake_ros.SetParametersResult()])
    )
    ask(node, names.SET_PARAMETERS, names.parameters({"task.k_pos_x": 500.0}), 10.0)
    (parameter,) = requests[0].parameters
    assert isinstance(parameter, fake_ros.Parameter)
    assert (parameter.name, parameter.value.double_value) == ("task.k_pos_x", 500.0)


def test_a_service_that_nobody_offers_or_that_fails_is_no_answer(ros, node, caplog):
    with pytest.raises(RobotError, match=r"service_server/set_load .*no answer within 10 s"):
        ask(node, names.SET_LOAD, {"mass": 0.5}, 10.0)

    def fail(_):
        raise RuntimeError("died")

    ros.services["service_server/set_load"] = fail
    with pytest.raises(RobotError, match="no answer"):
        ask(node, names.SET_LOAD, {"mass": 0.5}, 10.0)
    assert "nobody offers the service service_server/set_load" in caplog.text
    assert "service_server/set_load failed: died" in caplog.text


def test_an_action_ends_with_its_result(ros, node):
    handle = fake_rclpy.GoalHandle(ros, accepted=True)
    handle.result_future.done_with(fake_rclpy.Outcome(4, "recovered"))
    ros.actions["action_server/error_recovery"] = lambda goal: handle
    assert perform(node, names.ERROR_RECOVERY, {}, 10.0) == "recovered"


@pytest.mark.parametrize("status", [5, 6])
def test_an_action_that_is_cancelled_or_aborted_has_no_result(ros, node, status):
    handle = fake_rclpy.GoalHandle(ros, accepted=True)
    handle.result_future.done_with(fake_rclpy.Outcome(status, "partial"))
    ros.actions["action_server/error_recovery"] = lambda goal: handle
    with pytest.raises(RobotError, match=r"action_server/error_recovery .*refused, or failed"):
        perform(node, names.ERROR_RECOVERY, {}, 10.0)


def test_an_action_that_is_refused_or_not_there_has_no_result(ros, node):
    with pytest.raises(RobotError, match="refused, or failed"):
        perform(node, names.ERROR_RECOVERY, {}, 10.0)
    ros.actions["action_server/error_recovery"] = lambda goal: fake_rclpy.GoalHandle(ros, accepted=False)
    with pytest.raises(RobotError, match="refused, or failed"):
        perform(node, names.ERROR_RECOVERY, {}, 10.0)


def test_an_action_that_does_not_end_is_cancelled(ros, node):
    handle = fake_rclpy.GoalHandle(ros, accepted=True)
    accepted = threading.Event()
    ros.actions["action_server/error_recovery"] = lambda goal: accepted.set() or handle
    with pytest.raises(RobotError, match="did not end within"):
        perform(node, names.ERROR_RECOVERY, {}, 0.1)
    assert accepted.wait(10.0)
    done = threading.Event()
    ros.run(done.set)  # behind what the node's thread has to do
    assert done.wait(10.0)
    assert handle.is_cancelled


def test_stop_leaves_ros_and_no_thread_and_may_be_called_twice(ros, node):
    node.stop()
    node.stop()
    (made,) = ros.nodes
    assert made.is_destroyed
    assert not made.context.ok()
    assert "ros2-node" not in [thread.name for thread in threading.enumerate()]
