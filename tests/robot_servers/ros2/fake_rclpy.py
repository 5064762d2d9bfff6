"""rclpy and the message packages as `RosNode` uses them, in place of a ROS installation.

A node here is heard of by no other process: services and actions are answered by functions that a test sets.
"""

import sys
import threading
import types
from dataclasses import dataclass
from queue import Empty, Queue

import fake_ros


class Future:
    """Done callbacks are called on the executor's thread, as rclpy does."""

    def __init__(self, run):
        self._run = run
        self._callbacks = []
        self._outcome = None

    def add_done_callback(self, callback):
        self._callbacks.append(callback)
        if self._outcome is not None:
            self._run(lambda: callback(self))

    def done_with(self, result=None, error=None):
        self._outcome = (result, error)
        for callback in self._callbacks:
            self._run(lambda callback=callback: callback(self))

    def result(self):
        return self._outcome[0]

    def exception(self):
        return self._outcome[1]


class Context:
    def __init__(self):
        self.is_ok = False

    def ok(self):
        return self.is_ok


class Publisher:
    def __init__(self):
        self.messages = []

    def publish(self, message):
        self.messages.append(message)


class Client:
    def __init__(self, ros, name):
        self._ros, self._name = ros, name

    def service_is_ready(self):
        return self._name in self._ros.services

    def wait_for_service(self, timeout_sec=None):
        return self.service_is_ready()

    def call_async(self, request):
        future = Future(self._ros.run)
        try:
            future.done_with(self._ros.services[self._name](request))
        except RuntimeError as error:
            future.done_with(error=error)
        return future


@dataclass
class Outcome:
    status: int
    result: object


class GoalHandle:
    def __init__(self, ros, accepted):
        self.accepted = accepted
        self.is_cancelled = False
        self.result_future = Future(ros.run)

    def get_result_async(self):
        return self.result_future

    def cancel_goal_async(self):
        self.is_cancelled = True


class Clock:
    def now(self):
        return self

    def to_msg(self):
        return fake_ros.Time(sec=12, nanosec=34)


class Node:
    def __init__(self, ros, name, namespace, context):
        self.ros, self.name, self.namespace, self.context = ros, name, namespace, context
        self.publishers, self.subscriptions, self.is_destroyed = {}, {}, False

    def create_publisher(self, kind, topic, qos_profile):
        self.publishers[topic] = Publisher()
        self.publishers[topic].kind, self.publishers[topic].qos = kind, qos_profile
        return self.publishers[topic]

    def create_subscription(self, kind, topic, callback, qos_profile):
        self.subscriptions[topic] = (kind, callback, qos_profile)

    def create_client(self, kind, name):
        return Client(self.ros, name)

    def get_clock(self):
        return Clock()

    def destroy_node(self):
        self.is_destroyed = True


class Executor:
    def __init__(self, ros, context):
        self._ros, self._context = ros, context
        self._is_ending = threading.Event()

    def add_node(self, node):
        pass

    def spin(self):
        while not self._is_ending.is_set():
            try:
                self._ros.queue.get(timeout=0.01)()
            except Empty:
                continue

    def shutdown(self):
        self._is_ending.set()


class FakeRos:
    """What a test sees of it all."""

    def __init__(self):
        self.nodes = []
        self.services = {}  # name -> function of the request
        self.actions = {}  # name -> function of the goal, which returns a GoalHandle
        self.queue = Queue()
        self.init_arguments = None

    def run(self, work):
        self.queue.put(work)

    def modules(self):
        """Return what `import` shall find, by name."""
        ros = self

        def init(args=None, context=None, signal_handler_options=None):
            ros.init_arguments = (args, signal_handler_options)
            context.is_ok = True

        def create_node(name, namespace=None, context=None):
            ros.nodes.append(Node(ros, name, namespace, context))
            return ros.nodes[-1]

        def shutdown(context=None):
            context.is_ok = False

        class ActionClient:
            def __init__(self, node, kind, name):
                self._name = name

            def server_is_ready(self):
                return self._name in ros.actions

            def wait_for_server(self, timeout_sec=None):
                return self.server_is_ready()

            def send_goal_async(self, goal):
                future = Future(ros.run)
                future.done_with(ros.actions[self._name](goal))
                return future

        modules = {
            "rclpy": {"Context": Context, "init": init, "create_node": create_node, "shutdown": shutdown},
            "rclpy.executors": {"SingleThreadedExecutor": lambda context: Executor(ros, context)},
            "rclpy.signals": {"SignalHandlerOptions": types.SimpleNamespace(NO="no handlers")},
            "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
            "rclpy.action": {"ActionClient": ActionClient},
        }
        for kind, definition in fake_ros.KINDS.items():
            package, group, name = kind.split("/")
            modules.setdefault(package, {})
            modules.setdefault(f"{package}.{group}", {})[name] = definition
        return {name: _module(name, contents) for name, contents in modules.items()}


def _module(name, contents):
    module = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(contents)
    return module


def install(monkeypatch):
    """Let imports of ROS find the fake, for one test."""
    ros = FakeRos()
    for name, module in ros.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return ros
