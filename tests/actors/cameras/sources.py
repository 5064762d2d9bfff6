"""What the tests of cameras run on: a device that gives what it is told to, and patience."""

import queue
import time

import numpy as np

from actors.cameras.interface import Frame
from serl_core.errors import CameraFault


def image(value=100, shape=(4, 6, 3)):
    return np.full(shape, value, np.uint8)


class ListedSource:
    """Gives the frames that are put into it, raises the errors, and waits while there is neither."""

    def __init__(self):
        self.refusals = []  # errors of the next calls of open
        self.opens = self.closes = 0
        self._given = queue.Queue()
        self._is_released = False

    def give(self, *given):
        for one in given:
            self._given.put(one)

    def release(self):
        """Let a read that waits end."""
        self._is_released = True

    def open(self):
        self.opens += 1
        if self.refusals:
            raise self.refusals.pop(0)

    def read(self):
        while not self._is_released:
            try:
                given = self._given.get(timeout=0.002)
            except queue.Empty:
                continue
            if isinstance(given, Frame):
                return given
            raise given
        raise CameraFault("released")

    def close(self):
        self.closes += 1


def until(is_so):
    give_up_s = time.monotonic() + 10.0
    while not is_so():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.001)
