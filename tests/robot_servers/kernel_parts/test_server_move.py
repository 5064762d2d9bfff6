"""A move of the server: when it is over, and how."""

import pytest

from robot_servers.kernel_parts.server_move import ARRIVE_WITHIN_S, LOOK_AHEAD_S, SETTLE_S, ServerMove
from robot_servers.kernel_parts.slew import MinimumJerk
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits

LIMITS = SafetyLimits()
START, GOAL = ((x, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0) for x in (0.45, 0.55))
PATH = MinimumJerk(START, GOAL, 0.15, 0.6, LIMITS)
BEGIN_S = 100.0
END_S = BEGIN_S + PATH.duration_s


@pytest.fixture
def move():
    return ServerMove(PATH, BEGIN_S)


def outcome(move, now_s, measured=GOAL, is_at_rest=True):
    return move.outcome(now_s, is_at_rest, measured, SoftWall(LIMITS), 2000.0)


def test_its_target_goes_from_start_to_goal_and_stays_there(move):
    assert move.target(BEGIN_S) == START
    assert move.target(END_S + 1.0) == GOAL
    assert move.ahead(BEGIN_S) == pytest.approx(move.target(BEGIN_S + LOOK_AHEAD_S))
    assert move.ahead(BEGIN_S) != START


def test_it_is_over_once_the_arm_has_had_time_to_follow(move):
    assert outcome(move, END_S - 0.01) is None
    assert outcome(move, END_S + 0.1, is_at_rest=False) is None
    assert outcome(move, END_S + 0.1) is None
    assert outcome(move, END_S + 0.1 + 1.01 * SETTLE_S) == (True, "")


def test_an_arm_that_stays_short_of_the_goal_fails_after_a_while(move):
    assert outcome(move, END_S + 0.001, START) is None
    assert outcome(move, END_S + 0.9 * ARRIVE_WITHIN_S, START) is None
    failed = outcome(move, END_S + 1.1 * ARRIVE_WITHIN_S, START)
    assert not failed.is_success
    assert failed.detail == "the arm is 100.0 mm and 0.000 rad short of the goal"
