"""How far a recording is: demonstrations, and frames for the classifier, counted in the run's folders now and then."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from serl_core.clock import Clock
from serl_core.data.episode_file import SUFFIX

PERIOD_S = 1.0
FRAMES = Path("classifier") / "frames"  # in the run's folder
GOALS = {"demonstrations": 20, "classifier": 200}


class Progress:
    """Counts at most once a second; a file is looked into once, for it never changes."""

    def __init__(self, run: Path, clock: Clock = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._counted_s: float | None = None
        self._counts: dict[str, Any] = {}
        self._successes: dict[Path, int] = {}  # frames with success, by file

    def view(self) -> dict[str, Any]:
        """Return count and goal by what is recorded: demonstrations, and frames with success."""
        now_s = self._clock()
        if self._counted_s is None or now_s - self._counted_s >= PERIOD_S:
            self._counted_s = now_s
            found = {
                "demonstrations": _count(self._run / "demos", lambda _: 1),
                "classifier": _count(self._run / FRAMES, self._frames),
            }
            self._counts = {what: {"count": count, "goal": GOALS[what]} for what, count in found.items()}
        return self._counts

    def _frames(self, path: Path) -> int:
        if path not in self._successes:
            try:
                with safe_open(path, framework="numpy") as file:
                    self._successes[path] = int(file.get_tensor("is_success").sum())
            except (SafetensorError, OSError):  # of another kind: `serl classifier train` will say so
                self._successes[path] = 0
        return self._successes[path]


def _count(folder: Path, of_file: Callable[[Path], int]) -> int:
    return sum(of_file(path) for path in folder.glob(f"*{SUFFIX}"))
