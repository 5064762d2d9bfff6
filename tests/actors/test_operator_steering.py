import pytest

from actors.operator_steering import MAX_AGE_S, WATCH_S, Lost, Steering
from serl_core.clock import ManualClock
from tests.actors.fake_console import PUSH, teleop


class Rig:
    def __init__(self):
        self.clock = ManualClock(100.0)
        self.steering = Steering(self.clock)

    def take(self, **options):
        return self.steering.take(teleop(**options), self.clock())


@pytest.fixture
def rig():
    return Rig()


def test_nobody_steers_at_first(rig):
    assert rig.steering.read() is None


def test_the_newest_command_counts(rig):
    rig.take()
    rig.take(twist=(1.0, 0, 0, 0, 0, 0), gripper=-1.0)
    wish = rig.steering.read()
    assert (wish.operator, wish.twist[0], wish.gripper, wish.is_engaged) == ("ann", 1.0, -1.0, True)


def test_an_older_or_equal_command_is_ignored(rig):
    rig.take(sequence=10**9)
    for sequence in (10**9, 10**9 - 1):
        rig.take(sequence=sequence, twist=(1.0, 0, 0, 0, 0, 0))
    assert rig.steering.read().twist == PUSH


def test_the_age_counts_from_the_persons_hand(rig):
    """150 ms on the way to the console and 60 ms here are too old together."""
    rig.take(age_ms=150.0)
    rig.clock.advance(0.04)
    assert rig.steering.read().is_engaged
    rig.clock.advance(0.02)
    assert rig.steering.read() == Lost("ann")


def test_a_command_that_waited_while_the_actor_stood_still_is_as_old_as_that(rig):
    """It was new when it arrived: a process that was suspended for a second moved the arm once more."""
    sent_s = rig.clock()
    rig.take(sent_s=sent_s)
    assert rig.steering.read().is_engaged
    rig.clock.advance(1.0)
    rig.take(sent_s=sent_s + 0.03)
    assert rig.steering.read() == Lost("ann")
    assert rig.steering.read() is None


def test_a_clock_that_is_ahead_makes_no_command_younger_than_its_arrival(rig):
    rig.take(sent_s=rig.clock() + 1000.0)
    rig.clock.advance(MAX_AGE_S + 1e-3)
    assert rig.steering.read() == Lost("ann")


def test_an_engaged_command_that_arrives_too_old_is_no_intervention(rig):
    rig.take(age_ms=201.0)
    assert rig.steering.read() is None


def test_commands_that_cease_while_engaged_are_a_loss_once(rig):
    rig.take()
    rig.clock.advance(MAX_AGE_S + 1e-3)
    assert rig.steering.read() == Lost("ann")
    assert rig.steering.read() is None


def test_commands_that_get_too_old_while_engaged_are_a_loss_too(rig):
    rig.take()
    rig.steering.read()
    rig.take(age_ms=500.0)
    assert rig.steering.read() == Lost("ann")


def test_who_has_let_go_may_be_silent(rig):
    rig.take()
    rig.take(engaged=False)
    assert not rig.steering.read().is_engaged
    rig.clock.advance(10.0)
    assert rig.steering.read() is None


def test_who_is_engaged_again_after_a_loss_steers(rig):
    rig.take()
    rig.clock.advance(1.0)
    rig.steering.read()
    rig.take()
    assert rig.steering.read().is_engaged


def test_the_second_operator_watches_until_2_s_after_the_firsts_last_command(rig):
    rig.take(operator="ann")
    assert "ann is steering; bob watches" in rig.take(operator="bob", twist=(1.0, 0, 0, 0, 0, 0))
    assert rig.steering.read().operator == "ann"
    rig.take(operator="ann", engaged=False)
    rig.clock.advance(WATCH_S - 0.01)
    rig.take(operator="bob")
    assert rig.steering.read() is None
    rig.clock.advance(0.01)
    assert rig.take(operator="bob") is None
    assert rig.steering.read().operator == "bob"


def test_who_watches_is_told_once_in_a_while(rig):
    rig.take(operator="ann")
    assert rig.take(operator="bob") is not None
    assert rig.take(operator="bob") is None


def test_an_idle_page_keeps_nobody_from_steering(rig):
    rig.take(operator="ann", engaged=False)
    rig.take(operator="bob")
    rig.take(operator="ann", engaged=False)
    assert rig.steering.read().operator == "bob"


def test_an_idle_page_does_not_hide_that_somebody_was_lost(rig):
    """The loop may look late, after a long reset."""
    rig.take(operator="ann")
    rig.clock.advance(5.0)
    rig.take(operator="bob", engaged=False)
    assert rig.steering.read() == Lost("ann")


def test_who_has_not_steered_may_hand_back(rig):
    rig.take(engaged=False, hands_back=True)
    assert rig.steering.read().hands_back


def test_after_forgetting_the_commands_from_before_are_no_loss(rig):
    rig.take()
    rig.steering.forget()
    rig.clock.advance(1.0)
    assert rig.steering.read() is None
    assert rig.take(operator="bob") is None
    assert rig.steering.read().operator == "bob"


def test_the_age_of_the_newest_command_also_once_it_is_too_old_to_act(rig):
    assert rig.steering.age_s() is None
    rig.take(age_ms=50)
    rig.clock.advance(MAX_AGE_S)
    rig.steering.read()
    assert rig.steering.age_s() == pytest.approx(MAX_AGE_S + 0.05)
