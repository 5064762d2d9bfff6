"""When and where people have helped the policy so far, and whether it needs help now: out of the run's own files."""

from collections import deque
from typing import Any

from actors.console.tail import Record

MAX_CORRECTED = 5000  # steps: the newest


class Help:
    """Put together record by record: a page that is loaded anew, or a console that is, begins with what was."""

    def __init__(self) -> None:
        self._corrected: deque[list[float]] = deque(maxlen=MAX_CORRECTED)  # step of the episode, x and y in m
        self._count = 0
        self._spread: float | None = None  # of the critics, by the learner's last record
        self._alone = 0  # episodes since the policy last succeeded alone

    def take(self, record: Record) -> None:
        """Take in a record of the learner, or of the actor."""
        spread = record.get("q_std")
        if isinstance(spread, int | float):
            self._spread = spread
        if record.get("kind") == "episode":
            is_alone = record.get("is_success") and not record.get("intervention_rate")
            self._alone = 0 if is_alone else self._alone + 1
        corrected = record.get("corrected")
        for step in corrected if isinstance(corrected, list) else ():
            if isinstance(step, list) and len(step) == 3 and all(isinstance(value, int | float) for value in step):
                self._corrected.append(step)
                self._count += 1

    def view(self) -> dict[str, Any]:
        """Return all of it; of the corrected steps the newest, and how many there were."""
        return {
            "corrected": list(self._corrected),
            "count": self._count,
            "spread": self._spread,
            "episodes_not_alone": self._alone,
        }
