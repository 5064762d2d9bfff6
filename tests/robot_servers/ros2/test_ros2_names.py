import math

import fake_ros
import msgspec
import numpy as np
import pytest

from robot_servers.arm_parts.joint_move import JointMove
from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.ros2 import names
from robot_servers.ros2.io import Action, Service, Topic, fill
from serl_core.errors import RobotError
from serl_core.robots.messages import ImpedanceParams


def test_rotational_gains_pull_with_the_same_torque_at_the_full_angle():
    params = ImpedanceParams()
    gains = names.gains(params)
    for angle in (0.001, 0.02, 0.09):
        ours = params.rotational_stiffness_nm_rad * math.sin(angle / 2.0)
        assert gains["task.k_rot_x"] * angle == pytest.approx(ours, rel=1e-3)
    at_clip = params.rotational_stiffness_nm_rad * params.rotational_clip_rad[0]
    assert gains["task.k_rot_z"] * gains["task.error_clip.rz"] == pytest.approx(at_clip)
    assert (gains["task.k_rot_x"], gains["task.error_clip.rx"], gains["task.d_rot_x"]) == (75.0, 0.10, 7.0)


def test_translational_gains_go_over_as_they_are():
    gains = names.gains(ImpedanceParams())
    for axis in "xyz":
        assert gains[f"task.k_pos_{axis}"] == 2000.0
        assert gains[f"task.d_pos_{axis}"] == 89.0
        assert gains[f"task.error_clip.{axis}"] == 0.008
    assert gains["nullspace.stiffness"] == 10.0
    assert len(gains) == 19


def test_the_controllers_own_clip_is_the_largest_of_those_asked_for():
    uneven = msgspec.structs.replace(ImpedanceParams(), translational_clip_m=(0.001, 0.002, 0.003, 0.006, 0.005, 0.004))
    assert {names.gains(uneven)[f"task.error_clip.{axis}"] for axis in "xyz"} == {0.006}


def test_parameters_carry_their_type():
    request = fill(fake_ros.SetParameters.Request(), names.parameters({"a": 1, "b": True}), fake_ros.new)
    number, flag = request.parameters
    assert (number.name, number.value.type, number.value.double_value) == ("a", 3, 1.0)
    assert (flag.name, flag.value.type, flag.value.bool_value) == ("b", 1, True)


def test_every_type_that_the_driver_names_is_in_the_tests_definitions():
    kinds = {each.kind for each in vars(names).values() if isinstance(each, Topic | Service | Action)}
    kinds |= {names.PARAMETER, names.TRAJECTORY_POINT}
    assert kinds == set(fake_ros.KINDS)


def test_a_trajectory_has_times_that_rise_and_ends_at_rest_at_the_goal():
    move = JointMove([angle + 0.2 for angle in REST_Q], REST_Q, 0.25)
    goal = fill(fake_ros.FollowJointTrajectory.Goal(), names.trajectory(fake_ros.JOINTS, move), fake_ros.new)
    times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in goal.trajectory.points]
    assert goal.trajectory.joint_names == fake_ros.JOINTS
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(move.duration_s)
    np.testing.assert_allclose(goal.trajectory.points[-1].positions, REST_Q)
    np.testing.assert_allclose(goal.trajectory.points[-1].velocities, 0.0, atol=1e-12)


def test_a_message_of_another_version_is_said_to_be_one():
    with pytest.raises(RobotError, match="Goal has no field 'goal_joint_configuration': its package is another"):
        fill(fake_ros.Move.Goal(), names.ptp_motion(REST_Q, 0.2), fake_ros.new)


def test_the_fields_of_a_point_to_point_motion_are_in_the_tests_definition():
    goal = fill(fake_ros.PTPMotion.Goal(), names.ptp_motion(REST_Q, 0.2), fake_ros.new)
    assert goal.goal_joint_configuration == list(REST_Q)
    assert goal.maximum_joint_velocities == [0.2] * 7
