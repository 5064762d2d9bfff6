import math

import fake_ros
import numpy as np
import pytest

from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.arm_parts.state_message import message
from robot_servers.ros2.state import read
from robot_servers.sim.kinematics import inverse
from robot_servers.sim.scenes import build_ram_insertion


def test_a_reading_is_consistent_with_the_simulators_model():
    model = build_ram_insertion().model
    pose = (0.5, 0.1, 0.3, 1.0, 0.0, 0.0, 0.0)
    q = inverse(model, pose)
    state = fake_ros.robot_state(1.0, tuple(q.tolist()), pose)
    state.measured_joint_state.velocity = [0.1, -0.2, 0.3, 0.1, 0.0, -0.1, 0.2]
    reading = message(read(state), gripper=0.5, reference=pose, fault=None)
    step = 1e-6
    moved = fake_ros.robot_state(1.0, tuple((q + step * np.array(reading.dq)).tolist()))
    there = fake_ros.robot_state(1.0, tuple(q.tolist()))
    by_difference = (np.array(read(moved).pose[:3]) - np.array(read(there).pose[:3])) / step
    np.testing.assert_allclose(read(there).pose[:3], pose[:3], atol=1e-5)
    np.testing.assert_allclose(reading.tcp_twist[:3], by_difference, atol=1e-4)
    assert reading.q == pytest.approx(tuple(q))


def test_the_wrench_is_what_the_world_exerts():
    state = fake_ros.robot_state(1.0)
    state.o_f_ext_hat_k.wrench = fake_ros.Wrench(fake_ros.Vector3(1.0, 2.0, 3.0), fake_ros.Vector3(0.4, 0.5, 0.6))
    assert read(state).wrench == (-1.0, -2.0, -3.0, -0.4, -0.5, -0.6)


@pytest.mark.parametrize(
    ("mode", "error", "trouble"),
    [
        (1, None, None),
        (2, None, None),
        (4, None, "reflex"),
        (2, "cartesian_reflex", "reflex"),
        (5, None, "user_stopped"),
        (5, "joint_reflex", "user_stopped"),
        (3, None, "not_controlled"),
        (6, None, "not_controlled"),
        (0, None, "not_controlled"),
    ],
)
def test_mode_and_errors_tell_why_the_arm_does_not_obey(mode, error, trouble):
    state = fake_ros.robot_state(1.0)
    state.robot_mode = mode
    if error is not None:
        setattr(state.current_errors, error, True)
    assert read(state).trouble == trouble


def test_a_state_without_a_pose_or_joints_is_not_finite_for_the_kernel_to_judge():
    state = fake_ros.robot_state(1.0)
    state.o_t_ee.pose.orientation = fake_ros.Quaternion(0.0, 0.0, 0.0, 0.0)
    assert not np.isfinite(read(state).measured.quaternion).any()
    state.measured_joint_state.position = [math.nan] * 7
    assert not np.isfinite(read(state).measured.jacobian).any()


def test_the_quaternion_comes_out_of_length_one():
    state = fake_ros.robot_state(1.0, REST_Q)
    state.o_t_ee.pose.orientation = fake_ros.Quaternion(1.0001, 0.0, 0.0, 0.0)
    assert math.hypot(*read(state).pose[3:]) == pytest.approx(1.0, abs=1e-12)
