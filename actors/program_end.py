"""How an actor's program ends: SIGTERM and SIGINT are obeyed between two control steps."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from actors.actor import Act
from serl_core.signals import set_by_signals
from serl_core.types import Observation


class ProgramEnd(threading.Event):
    """Once set, ends the program between two control steps: every context closes, the arm holds."""

    def sleep(self, duration_s: float) -> None:
        """Wait, or end the program."""
        if self.wait(duration_s):
            raise SystemExit(0)

    def guard(self, act: Act) -> Act:
        """Return `act` as the place where the program ends."""

        def guarded(observation: Observation) -> NDArray[np.float32]:
            self.sleep(0.0)
            return act(observation)

        return guarded


@contextmanager
def ended_by_signals() -> Iterator[ProgramEnd]:
    """Yield an event that SIGTERM and SIGINT set; the handlers from before come back afterwards."""
    stop = ProgramEnd()
    with set_by_signals(stop):
        yield stop
