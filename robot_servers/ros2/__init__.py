"""The ROS 2 driver: `Ros2Backend` on a `RosNode`. Importing it imports no part of ROS."""

from robot_servers.ros2.backend import Ros2Backend
from robot_servers.ros2.node import RosNode

__all__ = ["Ros2Backend", "RosNode"]
