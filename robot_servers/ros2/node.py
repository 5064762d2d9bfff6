"""The one place that imports rclpy and message packages: `robot_servers.ros2.io.RosIo` on a node of its own.

They are no dependency of this package and come from the ROS installation; they are imported in `start`.
"""

import importlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from robot_servers.ros2.io import Action, Fields, Goal, Service, Topic, fill
from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

NODE_NAME = "serl_robot_server"
JOIN_S = 2.0
REMEDY = (
    "source the ROS installation (source /opt/ros/<distribution>/setup.bash and the workspace of its drivers) and run "
    "serl in an environment that sees it: docs/how-to/ros2.md shows two"
)


class RosNode:
    """A node, spun by a thread."""

    def __init__(self, namespace: str = "") -> None:
        """Store the namespace of the arm's nodes."""
        self._namespace = namespace
        self._rclpy: Any = None
        self._context: Any = None
        self._node: Any = None
        self._executor: Any = None
        self._thread: threading.Thread | None = None
        self._publishers: dict[Topic, Any] = {}
        self._clients: dict[Service | Action, Any] = {}

    def start(self) -> None:
        """Make the node and spin it.

        Raises:
            ConfigError: rclpy cannot be imported, with the remedy.
        """
        self.stop()
        rclpy = self._rclpy = _import("rclpy")
        executors, signals = _import("rclpy.executors"), _import("rclpy.signals")
        self._context = rclpy.Context()
        # The server's own handlers of SIGINT and SIGTERM must stay: they end it in order.
        rclpy.init(args=[], context=self._context, signal_handler_options=signals.SignalHandlerOptions.NO)
        self._node = rclpy.create_node(NODE_NAME, namespace=self._namespace, context=self._context)
        self._executor = executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(
            target=self._spin, args=(self._executor, self._context), name="ros2-node", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Leave ROS. Safe to call twice."""
        if self._context is None:
            return
        if self._executor is not None:
            self._executor.shutdown()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        if self._node is not None:
            self._node.destroy_node()
        self._rclpy.shutdown(context=self._context)
        self._node = self._executor = self._thread = self._context = None
        self._publishers, self._clients = {}, {}

    def subscribe(self, topic: Topic, on_message: Callable[[Any], None]) -> None:
        """Call `on_message` with the newest message, on the node's thread."""
        qos = _import("rclpy.qos").qos_profile_sensor_data  # best effort: takes what any publisher offers
        self._node.create_subscription(_type(topic.kind), topic.name, on_message, qos)

    def publish(self, topic: Topic, fields: Fields) -> None:
        """Send a message, stamped with the present time if it has a header."""
        publisher = self._publishers.get(topic)
        if publisher is None:
            publisher = self._node.create_publisher(_type(topic.kind), topic.name, 1)
            self._publishers[topic] = publisher
        message = fill(new(topic.kind), fields, new)
        if hasattr(message, "header"):
            message.header.stamp = self._node.get_clock().now().to_msg()
        publisher.publish(message)

    def call(self, service: Service, fields: Fields, on_reply: Callable[[Any | None], None]) -> None:
        """Call a service; `on_reply` gets its reply, or None when nobody offers it or it failed."""
        kind = _type(service.kind)
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self._node.create_client(kind, service.name)
        request = fill(kind.Request(), fields, new)
        if not client.service_is_ready():
            threading.Thread(target=self._call_later, args=(client, service, request, on_reply), daemon=True).start()
            return
        client.call_async(request).add_done_callback(lambda future: on_reply(_result(future, service.name)))

    def send_goal(self, action: Action, fields: Fields, on_end: Callable[[Any | None], None]) -> Goal:
        """Begin an action; `on_end` gets its result, or None when it did not succeed."""
        kind = _type(action.kind)
        client = self._clients.get(action)
        if client is None:
            client = self._clients[action] = _import("rclpy.action").ActionClient(self._node, kind, action.name)
        goal = _Goal(action.name, on_end)
        message = fill(kind.Goal(), fields, new)
        if client.server_is_ready():
            client.send_goal_async(message).add_done_callback(goal.answered)
        else:
            threading.Thread(target=self._send_later, args=(client, message, goal), daemon=True).start()
        return goal

    # ---- a client that has just been made does not know its server yet: somebody else waits for that

    def _call_later(self, client: Any, service: Service, request: Any, on_reply: Callable[[Any | None], None]) -> None:
        if client.wait_for_service(timeout_sec=DISCOVERY_S):
            client.call_async(request).add_done_callback(lambda future: on_reply(_result(future, service.name)))
        else:
            logger.error("nobody offers the service %s (%s)", service.name, service.kind)
            on_reply(None)

    def _send_later(self, client: Any, message: Any, goal: "_Goal") -> None:
        if client.wait_for_server(timeout_sec=DISCOVERY_S):
            client.send_goal_async(message).add_done_callback(goal.answered)
        else:
            logger.error("nobody offers the action %s", goal.name)
            goal.end(None)

    def _spin(self, executor: Any, context: Any) -> None:
        try:
            executor.spin()
        except Exception as error:
            if context.ok():  # not the end that `stop` asked for
                logger.exception("the ROS 2 node died: %s", error)


class _Goal:
    """A goal on its way: sent, accepted, ended."""

    def __init__(self, name: str, on_end: Callable[[Any | None], None]) -> None:
        self.name = name
        self.end = on_end
        self._lock = threading.Lock()  # guards the two below
        self._handle: Any = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Ask the server to end it, now or as soon as it has accepted it."""
        with self._lock:
            self._is_cancelled, handle = True, self._handle
        if handle is not None:
            handle.cancel_goal_async()

    def answered(self, future: Any) -> None:
        """Take the server's answer to the goal."""
        handle = _result(future, self.name)
        if handle is None or not handle.accepted:
            logger.error("the action %s refused its goal", self.name)
            self.end(None)
            return
        with self._lock:
            self._handle, is_cancelled = handle, self._is_cancelled
        if is_cancelled:
            handle.cancel_goal_async()
        handle.get_result_async().add_done_callback(self._ended)

    def _ended(self, future: Any) -> None:
        outcome = _result(future, self.name)
        self.end(outcome.result if outcome is not None and outcome.status == SUCCEEDED else None)


DISCOVERY_S = 2.0
SUCCEEDED = 4  # action_msgs/msg/GoalStatus


def new(kind: str) -> Any:
    """Return an empty message of a type such as ``geometry_msgs/msg/PoseStamped``."""
    return _type(kind)()


def _type(kind: str) -> Any:
    package, group, name = kind.split("/")
    return getattr(_import(f"{package}.{group}"), name)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"ROS 2: there is no Python module {error.name!r}; {REMEDY}") from None


def _result(future: Any, name: str) -> Any | None:
    error = future.exception()
    if error is not None:
        logger.error("%s failed: %s", name, error)
        return None
    return future.result()
