import pytest

from examples.ram_insertion import CONFIG
from serl_core.envs.stepping import Goal, step_or_stay, step_with_revisions
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot

X, Y, Z, *TURN = CONFIG.reset.pose


def lower(by_m, gripper=None):
    return Goal((X, Y, Z - by_m, *TURN), gripper)


class Recorded(FakeRobot):
    """An arm in real time that keeps what it was sent, and when."""

    def __init__(self):
        super().__init__(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=False)
        self.sent = []
        self.refuses = ()
        self.is_late = False  # the next target
        self.connect()

    def step(self, pose, reply_after_s, gripper=None):
        self.sent.append((round(self.clock(), 6), pose[2], gripper))
        if pose[2] in self.refuses:
            raise RobotError("joint 4 would be at its limit", status=422)
        if self.is_late:
            self.is_late = False
            raise RobotError("the command was 0.500 s longer on its way than others", status=409, field="sent_s")
        return super().step(pose, reply_after_s, gripper)


def stepped(robot, goals=(), *, period_s=0.1, sleep=None):
    """Step for a period in which `goals` are given one after the other, None for no change."""
    left, goals = [], iter(goals)

    def revise(fraction):
        left.append(round(fraction, 6))
        return next(goals, None)

    sleep = sleep or robot.clock.advance
    state = step_with_revisions(robot, lower(0.01), period_s, revise, now=robot.clock, sleep=sleep)
    return state, left


def test_a_new_goal_is_sent_at_once_and_the_state_is_of_the_tick():
    robot = Recorded()
    state, left = stepped(robot, [None, None, lower(0.02, 1.0)])
    assert left == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert robot.sent == [
        (0.0, Z - 0.01, None),
        (0.03, Z - 0.02, 1.0),
        (0.08, Z - 0.02, 1.0),
    ]
    assert state.stamp_s == pytest.approx(0.1)


def test_without_a_new_goal_the_arm_is_told_twice_a_step():
    robot = Recorded()
    stepped(robot)
    assert robot.sent == [(0.0, Z - 0.01, None), (0.08, Z - 0.01, None)]


def test_a_new_goal_waits_until_20_ms_have_passed_since_the_last_one():
    robot = Recorded()
    stepped(robot, [lower(0.001 * k) for k in range(1, 9)])
    assert [at for at, _, _ in robot.sent] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])
    assert [z for _, z, _ in robot.sent] == pytest.approx([Z - 0.01, Z - 0.002, Z - 0.004, Z - 0.006, Z - 0.008])


@pytest.mark.parametrize("period_s", [0.01, 0.02, 0.039, 0.04, 0.041, 0.05, 0.0999, 0.1, 0.5])
def test_the_arm_is_told_less_than_the_100_times_a_second_that_its_server_takes(period_s):
    """It refuses more: then the step would end the actor. A loop of 100 Hz tells it that often, and no more."""
    robot = Recorded()
    stepped(robot, [lower(0.0001 * k) for k in range(100)], period_s=period_s)
    assert len(robot.sent) == 1 or len(robot.sent) / period_s < 80.0
    assert robot.clock() == pytest.approx(period_s)


def test_a_machine_that_sleeps_too_long_does_not_move_the_tick():
    robot = Recorded()
    state, left = stepped(robot, sleep=lambda duration_s: robot.clock.advance(duration_s + 0.015))
    assert left[-1] == pytest.approx(0.15)
    assert state.stamp_s == pytest.approx(0.1)


def test_a_step_that_was_slept_through_ends_at_once():
    robot = Recorded()
    state, left = stepped(robot, sleep=lambda _: robot.clock.advance(0.25))
    assert left == [0.0] * 8
    assert state.stamp_s == pytest.approx(0.25)


def test_a_goal_that_the_robot_refuses_makes_the_arm_stay_until_the_next_one():
    robot = Recorded()
    robot.refuses = (Z - 0.02,)
    stepped(robot, [None, lower(0.02), None, None, None, lower(0.01)])
    assert [z for _, z, _ in robot.sent] == [Z - 0.01, Z - 0.02, Z, Z - 0.01, Z - 0.01]


def test_after_a_goal_that_came_late_the_arm_stays_where_it_is_now():
    """It was sent anew as it was, with a new stamp: after a suspension the arm went to a goal of before it."""
    robot = Recorded()
    robot.is_late = True
    step_or_stay(robot, lower(0.01).target, 0.03, 0.0, is_lockstep=False, sleep=robot.clock.advance)
    assert robot.sent == [(0.0, Z - 0.01, 0.0), (0.0, Z, None)]


def test_a_step_that_was_suspended_ends_with_the_arm_told_to_stay():
    """The goal of before was sent once more at the end of the step: it ended the hold of the robot's watchdog."""
    robot = Recorded()

    def suspended(duration_s):
        robot.clock.advance(1.5 if robot.clock() == 0.0 else duration_s)

    state, left = stepped(robot, [lower(0.02, 0.0)], sleep=suspended)
    assert robot.sent == [(0.0, Z - 0.01, None), (1.5, Z, None)]
    assert (left, state.tcp_pose[2]) == ([0.0], Z)


@pytest.mark.parametrize("goal", [None, lower(0.02)], ids=["nothing new", "a new goal"])
def test_a_step_that_was_suspended_while_a_person_was_read_ends_so_too(goal):
    robot = Recorded()
    goals = [lower(0.02)]  # waits for its turn

    def revise(fraction):
        if goals:
            return goals.pop()
        robot.clock.advance(1.5)
        return goal

    step_with_revisions(robot, lower(0.01), 0.1, revise, now=robot.clock, sleep=robot.clock.advance)
    assert [z for _, z, _ in robot.sent] == [Z - 0.01, Z]


def test_what_is_raised_in_mid_step_ends_it_there():
    def raising(fraction):
        raise KeyboardInterrupt

    robot = Recorded()
    with pytest.raises(KeyboardInterrupt):
        step_with_revisions(robot, lower(0.01), 0.1, raising, now=robot.clock, sleep=robot.clock.advance)
    assert (robot.clock(), len(robot.sent)) == (pytest.approx(0.01), 1)


def test_a_stop_in_mid_step_is_seen_with_the_next_goal():
    def stopping(fraction):
        robot.fail(Mode.STOPPED, "stop")
        return lower(0.02)

    robot = Recorded()
    with pytest.raises(RobotFault):
        step_with_revisions(robot, lower(0.01), 0.1, stopping, now=robot.clock, sleep=robot.clock.advance)
    assert robot.clock() < 0.03
