"""Franka's hand, on franky-sim."""

import time

import franky
import pytest

from robot_servers.grippers.franka_hand import FrankaHand
from serl_core.errors import RobotError
from tests.robot_servers.franky.simulated import SimulatedArms, until


@pytest.fixture(scope="module")
def arms():
    simulated = SimulatedArms()
    yield simulated
    simulated.kill()


@pytest.fixture
def hand(arms):
    hand = FrankaHand(arms.address)
    hand.start()
    yield hand
    hand.stop()


def at(hand, position):
    until(lambda: abs(hand.position() - position) < 0.05, f"position {position}")


def test_it_starts_without_a_motion_and_knows_where_it_is(hand, arms):
    assert hand.position() == pytest.approx(arms.ask("finger_width") / 0.08, abs=0.02)
    assert hand.fault() is None


@pytest.mark.parametrize("position", [1.0, 0.0, 0.5])
def test_it_opens_closes_and_goes_between_while_the_caller_goes_on(hand, arms, position):
    begin_s = time.monotonic()
    hand.move(position, 0.05, 20.0)
    assert time.monotonic() - begin_s < 0.1
    at(hand, position)
    assert arms.ask("finger_width") == pytest.approx(0.08 * position, abs=0.004)


def test_a_newer_command_takes_the_place_of_one_under_way(hand):
    hand.move(1.0, 0.05, 20.0)
    at(hand, 1.0)
    hand.move(0.3, 0.02, 20.0)
    until(lambda: hand.position() < 0.9)
    hand.move(1.0, 0.05, 20.0)
    at(hand, 1.0)
    assert hand.fault() is None


def test_it_may_be_stopped_twice_and_started_again(hand):
    hand.stop()
    hand.stop()
    hand.start()
    assert hand.fault() is None


def test_nobody_there_is_refused_with_the_remedy():
    with pytest.raises(RobotError, match=r"no hand that takes commands.*--gripper none"):
        FrankaHand("127.0.0.1").start()


def test_a_hand_that_falls_silent_is_reported_and_connects_again_on_request_only():
    arms = SimulatedArms()
    address = arms.address
    hand = FrankaHand(address)
    hand.start()
    try:
        arms.kill()
        until(lambda: hand.fault() == "gripper_lost", "the fault")
        arms = SimulatedArms(addresses=[address])
        time.sleep(0.2)
        assert hand.fault() == "gripper_lost"
        hand.recover()
        until(lambda: hand.fault() is None, "the recovery")
        hand.move(1.0, 0.05, 20.0)
        at(hand, 1.0)
    finally:
        hand.stop()
        arms.kill()


def test_what_nobody_foresaw_is_a_fault_too(hand, monkeypatch):
    """It ended the driver's thread without a word: the hand looked sound, and obeyed nobody."""

    def fail(*_):
        raise ValueError("unforeseen")

    monkeypatch.setattr(hand, "_tend", fail)
    until(lambda: hand.fault() == "gripper_lost", "the fault")
    monkeypatch.undo()
    hand.recover()
    until(lambda: hand.fault() is None, "the recovery")


def test_a_command_that_a_lost_connection_ends_late_is_no_fault_of_the_new_one(hand):
    """A hand that had just been connected again was lost again at once."""

    def end(_):
        raise franky.NetworkException("the old connection")

    hand._carry_out("the hand of before", end)
    assert hand.fault() is None
    hand._carry_out(hand._hand, end)
    assert hand.fault() == "gripper_lost"
