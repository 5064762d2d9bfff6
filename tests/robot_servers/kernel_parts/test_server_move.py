"""A move of the server: when it is over, and how."""

import pytest

from robot_servers.kernel_parts.server_move import ARRIVE_WITHIN_S, LOOK_AHEAD_S, SETTLE_S, ServerMove, checked_path
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.robots.messages import MoveCommand

LIMITS = SafetyLimits()
START, GOAL = ((x, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0) for x in (0.45, 0.55))
PATH = checked_path(MoveCommand(epoch=1, pose=GOAL), START, LIMITS)
BEGIN_S = 100.0
END_S = BEGIN_S + PATH.duration_s


@pytest.fixture
def move():
    return ServerMove(PATH, BEGIN_S)


def outcome(move, now_s, measured=GOAL, is_at_rest=True):
    return move.outcome(now_s, is_at_rest, measured, SoftWall(LIMITS), 2000.0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"speed_m_s": 0.26}, "speed_m_s"),
        ({"speed_rad_s": 0.0}, "speed_rad_s"),
        ({"pose": (0.5, 0.0, 1.1, *GOAL[3:])}, "pose[2]"),
        ({"pose": (*GOAL[:3], 0.9, 0.0, 0.436, 0.0)}, "pose[3]"),  # tilted by 0.9 rad
    ],
)
def test_a_move_that_is_not_allowed_has_no_path(change, field):
    with pytest.raises(Refusal) as refused:
        checked_path(MoveCommand(**{"epoch": 1, "pose": GOAL} | change), START, LIMITS)
    assert refused.value.field == field


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
