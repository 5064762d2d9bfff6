"""The thread of a driver that calls its control tick at a fixed rate."""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

OVERRUN_S = 0.02  # an arm itself would stop after missing 20 ms


class ControlThread:
    """Calls `tick` every `period_s` until it returns False, raises, or is stopped.

    A late tick is not made up for: the next one comes a period after it.

    Attributes:
        overruns: how often a tick was 20 ms late or more.
    """

    def __init__(self, name: str, period_s: float, tick: Callable[[], bool], on_death: Callable[[], None]) -> None:
        """Store.

        Args:
            name: of the thread.
            period_s: between ticks.
            tick: returns whether to go on.
            on_death: called once `tick` has raised, which is logged.
        """
        self.overruns = 0
        self._name = name
        self._period_s = period_s
        self._tick = tick
        self._on_death = on_death
        self._is_stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._is_stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the present tick. Safe to call twice, and from the tick itself."""
        self._is_stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        due_s = time.monotonic()
        try:
            while not self._is_stopping.is_set() and self._tick():
                due_s += self._period_s
                left_s = due_s - time.monotonic()
                if left_s > 0.0:
                    time.sleep(left_s)
                    continue
                if left_s < -OVERRUN_S:
                    self.overruns += 1
                due_s = time.monotonic()
        except Exception:  # never silently: the driver latches a fault in `on_death`
            logger.exception("control loop %s died", self._name)
            self._on_death()
