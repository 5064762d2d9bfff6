import pytest

from actors.absence import PATIENCE_S, POLL_S, Absence
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.errors import RobotAway, RobotError
from serl_core.testing.fakes import FakeRobot

AWAY = RobotAway("no robot server at http://127.0.0.1:1", status=0)


class Gone(FakeRobot):
    """Answers again from a time on."""

    def __init__(self, clock, until_s):
        super().__init__(CONFIG.reset.pose, CONFIG.target_pose, clock=clock)
        self.until_s = until_s
        super().connect()

    def state(self):
        if self.clock() < self.until_s:
            raise AWAY
        return super().state()


def absence_until(until_s):
    clock = ManualClock()
    robot = Gone(clock, until_s)
    return Absence(robot, now=clock, sleep=clock.advance), robot, clock


def test_it_waits_until_the_robot_answers_and_takes_its_lease_anew():
    absence, robot, clock = absence_until(7.0)
    looks = []
    absence.wait(AWAY, lambda: looks.append(clock()))
    assert clock() == pytest.approx(7.0)
    assert len(looks) == 14
    assert robot.calls[-2:] == ["close", "connect"]


def test_after_a_minute_it_gives_up_with_the_reason_and_a_remedy():
    absence, _, clock = absence_until(1e9)
    with pytest.raises(RobotAway, match=r"no robot server at .* \(for more than 60 s: look at it"):
        absence.wait(AWAY)
    assert PATIENCE_S < clock() <= PATIENCE_S + 2 * POLL_S


def test_a_robot_that_comes_back_and_never_completes_a_step_uses_up_the_same_minute():
    """Its driver may fail at each command, and answer in between."""
    absence, _, clock = absence_until(0.0)

    def fail_for_ever():
        for _ in range(1000):
            absence.wait(AWAY)

    with pytest.raises(RobotAway):
        fail_for_ever()
    assert clock() <= PATIENCE_S + 2 * POLL_S


def test_a_completed_step_gives_a_new_minute():
    absence, robot, clock = absence_until(50.0)
    absence.wait(AWAY)
    absence.is_over()
    robot.until_s = clock() + 50.0
    absence.wait(AWAY)
    assert absence.count == 2


def test_a_lease_that_somebody_else_has_taken_is_waited_for():
    absence, robot, clock = absence_until(0.0)
    connect = robot.connect

    def refused():
        if clock() < 3.0:
            raise RobotError("the arm is commanded by 'bob'", status=409, field="owner")
        connect()

    robot.connect = refused
    absence.wait(AWAY)
    assert clock() >= 3.0
