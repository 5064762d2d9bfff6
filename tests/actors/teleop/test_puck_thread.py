"""The thread on the whole real stack down to the C library."""

import logging
import threading
import time

import numpy as np
import pytest

from actors.teleop.puck_device import PuckDevice
from actors.teleop.puck_reading import PuckReading
from actors.teleop.puck_thread import FIRST_PAUSE_S, LONGEST_PAUSE_S, PuckThread
from serl_core.errors import ConfigError
from tests.actors.teleop.fake_hidapi import COMPACT_RIGHT, COMPACT_RIGHT_GROWING, COMPACT_UP, LEFT_DOWN, eventually

PATH = "/dev/hidraw1"


@pytest.fixture
def puck(hidapi):
    hidapi.plug(PATH)
    thread = PuckThread(PuckDevice())
    thread.open()
    yield thread
    thread.close()


def test_the_newest_report_is_there_without_waiting_for_it(hidapi, puck):
    hidapi.send(PATH, *COMPACT_RIGHT_GROWING)
    eventually(lambda: puck.read().deflection[0] == 0.5)
    hidapi.send(PATH, *COMPACT_UP)
    eventually(lambda: puck.read().deflection[2] == 1.0)


def test_an_unplugged_device_is_warned_of_once_and_is_back_when_plugged_in_again(hidapi, puck, caplog):
    hidapi.send(PATH, *COMPACT_RIGHT, *LEFT_DOWN)
    eventually(lambda: puck.read().is_down == (True, False))
    with caplog.at_level(logging.WARNING):
        hidapi.unplug(PATH)
        eventually(lambda: not puck.read().is_connected)
        assert not puck.read().deflection.any()
        assert not any(puck.read().is_down)
        time.sleep(2 * FIRST_PAUSE_S)  # it tries again meanwhile
        hidapi.plug(PATH)
        eventually(lambda: puck.read().is_connected)
        hidapi.send(PATH, *COMPACT_UP)
        eventually(lambda: puck.read().deflection[2] == 1.0)
        eventually(lambda: len(caplog.records) == 2)
    lost, back = (record.getMessage() for record in caplog.records)
    assert lost.startswith("SpaceMouse: lost (")
    assert back.startswith("SpaceMouse: back after")
    assert puck.read().connection == 2


class Gone:
    """A device that goes after its first reading, and never comes back."""

    def __init__(self):
        self.opens = 0

    def open(self):
        self.opens += 1
        if self.opens > 1:
            raise ConfigError("gone")

    def read(self, timeout_s):
        if timeout_s:
            raise OSError("gone")
        return PuckReading(is_connected=True)

    def lost(self):
        return PuckReading()

    def close(self):
        raise OSError("gone too")


def test_the_pause_before_each_try_is_doubled_up_to_two_seconds():
    pauses = []

    def wait(pause_s):
        pauses.append(pause_s)
        return len(pauses) == 7

    thread = PuckThread(Gone(), wait=wait)
    thread.open()
    eventually(lambda: len(pauses) == 7)
    thread.close()
    assert pauses == [FIRST_PAUSE_S, 0.4, 0.8, 1.6] + [LONGEST_PAUSE_S] * 3


def test_a_device_that_is_not_there_at_first_is_an_error_and_leaves_no_thread(hidapi):
    before = threading.active_count()
    with pytest.raises(ConfigError, match="none is connected"):
        PuckThread(PuckDevice()).open()
    assert threading.active_count() == before


def test_one_that_cannot_be_read_is_an_error_and_is_closed(hidapi):
    hidapi.plug(PATH)
    hidapi.reports[PATH].put(None)
    with pytest.raises(ConfigError, match=r"cannot be read \(Failed to read from HID device: -1\)"):
        PuckThread(PuckDevice()).open()
    assert hidapi.open_now == 0


def test_a_closed_device_opens_again_and_closing_twice_is_safe(hidapi, puck):
    with pytest.raises(ConfigError, match="still open"):
        puck.open()
    puck.close()
    puck.close()
    puck.open()
    hidapi.send(PATH, *COMPACT_RIGHT)
    eventually(lambda: puck.read().deflection[0] == 1.0)


def test_what_it_gives_cannot_be_edited(hidapi, puck):
    hidapi.send(PATH, *COMPACT_RIGHT)
    eventually(lambda: puck.read().deflection.any())
    for reading in (puck.read(), PuckReading()):
        with pytest.raises(ValueError, match="read-only"):
            reading.deflection[0] = 0.0
    assert np.isfinite(puck.read().moved_s)
