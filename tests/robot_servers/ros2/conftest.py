"""Tests that need a ROS 2 installation are collected only where there is one: elsewhere they are no tests."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("rclpy") else ["test_ros2_live.py"]
