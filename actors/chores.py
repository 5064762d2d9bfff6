"""One thread for what may take a while and must not hold up a control step, nor the operator link."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Self

from serl_core.errors import SerlError

logger = logging.getLogger(__name__)

WAITING = 16


class Chores:
    """Does what it is given, one after the other. Open it as a context manager; on leaving, all is done.

    A chore may fail of what its user can mend, such as a full disk: that is logged, and the next one follows. A defect
    ends the thread, and with it the program (`serl_core.threads`).
    """

    def __init__(self) -> None:
        self._chores: queue.Queue[Callable[[], object] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="operator-chores", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None, "it was never opened"
        self._chores.put(None)
        self._thread.join()

    def do(self, chore: Callable[[], object]) -> bool:
        """Have it done soon; return False, with nothing done, if too much waits already. Never blocks."""
        try:
            self._chores.put_nowait(chore)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while (chore := self._chores.get()) is not None:
            try:
                chore()
            except (SerlError, OSError) as error:  # the arm's loop goes on, and so do the other chores
                logger.error("a chore for the operator has failed: %s", error)
