import pytest

from actors.label_buttons import UNSURE_S, ButtonLabel, check_label_buttons
from actors.teleop.puck_reading import PuckReading
from serl_core.clock import ManualClock
from serl_core.errors import ConfigError
from serl_core.testing.fakes import FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
STATE = FakeRobot((0.5, 0.0, 0.1, *DOWN), (0.5, 0.0, 0.1, *DOWN)).state()
NEVER = -float("inf")
FREE = PuckReading(is_down=(False, False), pressed_s=(NEVER, NEVER), buttons=("LEFT", "RIGHT"), is_connected=True)


class Hand:
    """A person at the buttons of a device, and the label that they give step by step."""

    def __init__(self):
        self.clock = ManualClock(10.0)
        self.reading = FREE
        self.label = ButtonLabel(lambda: self.reading, ("RIGHT",), self.clock)

    def press(self):
        self.reading = self.reading._replace(is_down=(False, True), pressed_s=(NEVER, self.clock()))

    def let_go(self):
        self.reading = self.reading._replace(is_down=(False, False))

    def says(self):
        said = self.label(STATE)
        self.clock.advance(0.125)
        return said


def test_frames_are_positive_while_the_button_is_held_and_uncertain_just_after():
    hand = Hand()
    hand.label.begin_episode()
    assert [hand.says() for _ in range(2)] == [False, False]
    hand.press()
    assert [hand.says() for _ in range(20)] == [True] * 20
    hand.let_go()
    said = [hand.says() for _ in range(7)]
    assert said == [None] * 3 + [False] * 4
    assert UNSURE_S == 0.5


def test_another_button_is_no_label():
    hand = Hand()
    hand.reading = FREE._replace(is_down=(True, False), pressed_s=(hand.clock(), NEVER))
    assert hand.says() is False


def test_a_press_that_was_over_before_the_step_leaves_the_frame_out():
    hand = Hand()
    hand.press()
    hand.let_go()
    assert hand.says() is None


def test_a_button_held_since_before_the_episode_is_no_label_until_it_is_pressed_anew():
    """Held while the arm went to its start, it would have labelled the start pose as success."""
    hand = Hand()
    hand.press()
    hand.label.begin_episode()
    assert [hand.says() for _ in range(3)] == [None] * 3
    hand.let_go()
    assert hand.says() is None
    hand.press()
    assert hand.says() is True


def test_a_press_during_the_reset_is_no_label():
    hand = Hand()
    hand.press()
    hand.let_go()
    hand.label.begin_episode()
    assert hand.says() is False


def test_nothing_is_known_while_the_device_is_unplugged():
    """It would have called every frame of a finished task a failure."""
    hand = Hand()
    hand.press()
    assert hand.says() is True
    hand.reading = PuckReading(connection=1)
    assert [hand.says() for _ in range(20)] == [None] * 20


def test_buttons_that_the_device_lacks_are_refused():
    check_label_buttons(FREE, ("last",))
    with pytest.raises(ConfigError, match="no button 'TOP'; its buttons are LEFT, RIGHT"):
        check_label_buttons(FREE, ("TOP",))
    with pytest.raises(ConfigError, match="has no buttons; use --label key"):
        check_label_buttons(PuckReading(is_connected=True), ("last",))
