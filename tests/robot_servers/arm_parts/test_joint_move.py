import math

import numpy as np
import pytest

from robot_servers.arm_parts.joint_move import BLOCKED_S, JOINT_SPEED_RAD_S, JointMove
from robot_servers.arm_parts.kinematics_panda import REST_Q, hand_pose

START = np.array(REST_Q) + np.array([0.8, -0.3, 0.2, 0.4, -0.5, 0.3, 1.0])


def test_tool_and_joints_stay_below_their_speeds():
    move = JointMove(START.tolist(), REST_Q, 0.25)
    times = np.linspace(0.0, move.duration_s, 400)
    tools = np.array([hand_pose(move.at(t)[0].tolist())[:3, 3] for t in times])
    speed = np.linalg.norm(np.diff(tools, axis=0), axis=1) / np.diff(times)
    assert speed.max() < 0.25
    assert max(np.abs(move.at(t)[1]).max() for t in times) <= JOINT_SPEED_RAD_S + 1e-9
    assert speed.max() > 0.2 or move.duration_s < 4.0  # no slower than it has to be


def test_it_starts_and_ends_at_rest_and_stays():
    move = JointMove(START.tolist(), REST_Q, 0.25)
    for time_s, place in ((0.0, START), (move.duration_s, REST_Q), (move.duration_s + 9.0, REST_Q)):
        q, dq = move.at(time_s)
        np.testing.assert_allclose(q, place, atol=1e-12)
        np.testing.assert_allclose(dq, 0.0, atol=1e-12)


def test_speed_is_the_derivative_of_the_way():
    move = JointMove(START.tolist(), REST_Q, 0.25)
    for time_s in np.linspace(0.1, move.duration_s - 0.1, 7):
        by_difference = (move.at(time_s + 1e-6)[0] - move.at(time_s - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(move.at(time_s)[1], by_difference, atol=1e-6)


def test_an_arm_that_stays_behind_is_blocked_and_one_that_follows_is_not():
    move = JointMove(START.tolist(), REST_Q, 0.25)
    for tick in range(round(move.duration_s / 0.01)):
        move.watch(tick * 0.01, move.at(tick * 0.01)[0] + 0.05, 0.01)
    assert not move.is_blocked
    for tick in range(round(BLOCKED_S / 0.01) + 2):
        move.watch(move.duration_s + tick * 0.01, START, 0.01)
    assert move.is_blocked


def test_a_reading_that_is_not_finite_has_not_arrived():
    move = JointMove(START.tolist(), REST_Q, 0.25)
    assert move.error_rad(START) == pytest.approx(1.0)
    assert move.error_rad(np.full(7, math.nan)) == math.inf
