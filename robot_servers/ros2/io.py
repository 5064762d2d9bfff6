"""What the ROS 2 driver needs of ROS 2, and no more: a node offers it, and so do the tests.

A message goes out as its fields by name, nested as in its definition, and comes in as the object that the middleware
made. So nothing but the node imports a message package.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from serl_core.errors import RobotError

Fields = Mapping[str, Any]
"""A message's fields; values are numbers, strings, lists, further fields, or `Part`."""


class Topic(NamedTuple):
    """A topic, relative to the arm's namespace, and its type, such as ``geometry_msgs/msg/PoseStamped``."""

    name: str
    kind: str


class Service(NamedTuple):
    """A service and its type, such as ``franka_msgs/srv/SetLoad``."""

    name: str
    kind: str


class Action(NamedTuple):
    """An action and its type, such as ``franka_msgs/action/ErrorRecovery``."""

    name: str
    kind: str


class Part(NamedTuple):
    """A message inside a list of messages: only its definition tells the type, so it is named."""

    kind: str
    fields: Fields


class Goal(Protocol):
    """A goal that was sent."""

    def cancel(self) -> None:
        """Ask the server to end it; returns at once."""


class RosIo(Protocol):
    """One node in the arm's namespace. Nothing waits but `start` and `stop`; callbacks come on the node's thread."""

    def start(self) -> None:
        """Join ROS.

        Raises:
            SerlError: ROS is not there, with the remedy.
        """

    def stop(self) -> None:
        """Leave ROS. Safe to call twice."""

    def subscribe(self, topic: Topic, on_message: Callable[[Any], None]) -> None:
        """Call `on_message` with the newest message; older ones may be dropped."""

    def publish(self, topic: Topic, fields: Fields) -> None:
        """Send a message."""

    def call(self, service: Service, fields: Fields, on_reply: Callable[[Any | None], None]) -> None:
        """Call a service; `on_reply` gets its reply, or None when nobody offers it or it failed."""

    def send_goal(self, action: Action, fields: Fields, on_end: Callable[[Any | None], None]) -> Goal:
        """Begin an action; `on_end` gets its result, or None when it was refused, failed, cancelled or is not there."""


def ask(io: RosIo, service: Service, fields: Fields, timeout_s: float) -> Any:
    """Return a service's reply, waiting for it.

    Raises:
        RobotError: no reply in time.
    """
    replied, replies = threading.Event(), []

    def on_reply(reply: Any | None) -> None:
        replies.append(reply)
        replied.set()

    io.call(service, fields, on_reply)
    if not replied.wait(timeout_s) or replies[0] is None:
        raise RobotError(
            f"service {service.name} ({service.kind}): no answer within {timeout_s:g} s; is its node running?"
        )
    return replies[0]


def perform(io: RosIo, action: Action, fields: Fields, timeout_s: float) -> Any:
    """Return an action's result, waiting for it.

    Raises:
        RobotError: refused, aborted or not ended in time; it was then cancelled.
    """
    ended, results = threading.Event(), []

    def on_end(result: Any | None) -> None:
        results.append(result)
        ended.set()

    goal = io.send_goal(action, fields, on_end)
    if not ended.wait(timeout_s):
        goal.cancel()
        raise RobotError(f"action {action.name} ({action.kind}) did not end within {timeout_s:g} s; see its node")
    if results[0] is None:
        raise RobotError(f"action {action.name} ({action.kind}) was refused, or failed; see its node's log")
    return results[0]


def fill(message: Any, fields: Fields, new: Callable[[str], Any]) -> Any:
    """Return `message` with `fields` written into it.

    Args:
        message: an object with the attributes that `fields` names.
        fields: what to write.
        new: makes an empty message of a type, for `Part`.

    Raises:
        RobotError: the message has no such field: another version of its package is installed.
    """
    for name, value in fields.items():
        if not hasattr(message, name):
            raise RobotError(
                f"{type(message).__name__} has no field {name!r}: its package is another version than the driver's "
                "(robot_servers/ros2/names.py says which)"
            )
        if isinstance(value, Mapping):
            fill(getattr(message, name), value, new)
        elif isinstance(value, list) and value and isinstance(value[0], Part):
            setattr(message, name, [fill(new(part.kind), part.fields, new) for part in value])
        else:
            setattr(message, name, value)
    return message
