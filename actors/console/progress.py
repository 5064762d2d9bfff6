"""How far a recording is: files counted in the run's folders, now and then."""

import time
from pathlib import Path
from typing import Any

from serl_core.clock import Clock
from serl_core.data.episode_file import SUFFIX

PERIOD_S = 1.0
GOALS = {"demonstrations": 20, "classifier": 200}


class Progress:
    """Counts demonstrations and recordings of classifier frames at most once a second."""

    def __init__(self, run: Path, clock: Clock = time.monotonic) -> None:
        self._folders = {"demonstrations": run / "demos", "classifier": run / "classifier" / "frames"}
        self._clock = clock
        self._counted_s: float | None = None
        self._counts: dict[str, Any] = {}

    def view(self) -> dict[str, Any]:
        """Return count and goal by what is recorded."""
        now_s = self._clock()
        if self._counted_s is None or now_s - self._counted_s >= PERIOD_S:
            self._counted_s = now_s
            self._counts = {
                what: {"count": sum(1 for _ in folder.glob(f"*{SUFFIX}")), "goal": GOALS[what]}
                for what, folder in self._folders.items()
            }
        return self._counts
