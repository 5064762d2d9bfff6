"""No process lives on by halves: a thread that dies of a defect takes its process with it.

That is safe, because whatever counts is on the disk, and the robot's watchdog holds an arm whose client is gone.
Half a process would be worse: one that moves the arm and keeps nothing, or trains and hears nobody.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

STATUS = 70  # EX_SOFTWARE


@contextmanager
def dying_together() -> Iterator[None]:
    """End this process with `STATUS` as soon as one of its threads dies by an exception nobody has caught."""
    before = threading.excepthook
    threading.excepthook = _end
    try:
        yield
    finally:
        threading.excepthook = before


def _end(death: threading.ExceptHookArgs) -> None:
    if issubclass(death.exc_type, SystemExit):
        return
    name = death.thread.name if death.thread is not None else "unknown"
    error = death.exc_value or death.exc_type()
    logger.critical("the thread %s has died, and this process ends with it", name, exc_info=error)
    logging.shutdown()
    os._exit(STATUS)
