import pytest

from actors.teleop.puck_buttons import NewPress, check_buttons, find_buttons, is_down
from actors.teleop.puck_reading import PuckReading
from serl_core.errors import ConfigError

NAMES = ("MENU", "ESC", "FIT")
READING = PuckReading(buttons=NAMES, is_down=(False, True, False), pressed_s=(1.0, 2.0, -float("inf")))


def test_a_press_is_taken_once_however_short():
    press = NewPress()
    assert press.take(READING, ("MENU", "ESC"), 2.1)
    assert not press.take(READING, ("MENU", "ESC"), 2.2)
    assert press.take(READING._replace(pressed_s=(2.3, 2.0, 0.0)), ("MENU", "ESC"), 2.4)


def test_a_press_from_long_before_counts_for_nothing():
    """One from the reset would have moved the gripper as the episode began."""
    press = NewPress()
    assert not press.take(READING, ("ESC",), 2.6)
    assert not NewPress().take(PuckReading(), ("first",), 0.0)


def test_buttons_are_named_and_the_ends_of_the_list_have_names_on_every_device():
    assert find_buttons(NAMES, ("FIT", "first", "last", "nothing")) == (2, 0, 2)
    assert find_buttons((), ("first", "last")) == ()
    assert is_down(READING, ("MENU", "ESC"))
    assert not is_down(READING, ("first", "last"))


def test_a_button_that_the_device_does_not_have_is_named_with_those_it_has():
    with pytest.raises(ConfigError, match="no button 'LEFT'; its buttons are MENU, ESC, FIT"):
        check_buttons(NAMES, ("LEFT",))
    check_buttons((), ("first", "last"))
