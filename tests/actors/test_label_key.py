import os
import pty
import termios

import pytest

from actors.label_key import KeyLabel, read_waiting, terminal_keys
from serl_core.clock import ManualClock
from serl_core.errors import ConfigError
from serl_core.testing.fakes import FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
STATE = FakeRobot((0.5, 0.0, 0.1, *DOWN), (0.5, 0.0, 0.1, *DOWN)).state()


def test_frames_are_positive_while_the_key_is_held_and_uncertain_just_after():
    """A terminal repeats a held key after half a second, and says nothing of its release."""
    clock = ManualClock()
    typed = iter(["", "x", " ", "", "  ", "", "", ""])
    label = KeyLabel(lambda: next(typed), clock)
    said = []
    for _ in range(8):
        said.append(label(STATE))
        clock.advance(0.3)
    assert said == [False, False, True, None, True, None, None, False]


def test_keys_are_read_without_blocking_and_the_end_of_the_input_is_no_key():
    reader, writer = os.pipe()
    assert read_waiting(reader) == ""
    os.write(writer, b"a b")
    assert read_waiting(reader) == "a b"
    os.close(writer)
    assert read_waiting(reader) == ""
    os.close(reader)


def test_a_terminal_gives_keys_at_once_and_is_as_before_afterwards(monkeypatch):
    control, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with terminal_keys() as keys:
            os.write(control, b" ")  # no line end
            assert keys() == " "
            assert keys() == ""
        assert termios.tcgetattr(stdin.fileno()) == before
    os.close(control)


def test_without_a_terminal_there_are_no_keys(monkeypatch):
    with open(os.devnull) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ConfigError, match="needs a terminal"), terminal_keys():
            pass


def test_what_was_typed_during_the_reset_is_no_label():
    """A space typed while the arm went to its start labelled the start pose as success."""
    clock = ManualClock()
    typed = iter([" ", "", "", "x", ""])
    label = KeyLabel(lambda: next(typed), clock)
    label.begin_episode()
    assert label(STATE) is None  # the key may still be held, and its next repeat on the way
    clock.advance(0.7)
    assert label(STATE) is False
    label.begin_episode()
    assert label(STATE) is False
