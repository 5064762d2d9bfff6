"""Clocks that jump: the wall clock of another process, and a monotonic clock that is passed in.

A program must take no decision by the wall clock: people and NTP set it. `SteppedWallClock` shows that, for any
program, without its help. `JumpingClock` stands for a machine that was suspended, which nobody sees coming.
"""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path

from serl_core.clock import Clock
from serl_core.errors import ConfigError


class SteppedWallClock:
    """The wall clock of processes that are started with `environment`; `step` moves it while they run.

    Their monotonic clocks stay as they are, as with a real clock that is set. Needs libfaketime and Linux.

    Args:
        folder: gets a small file.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock-offset"

    def step(self, offset_s: float) -> None:
        """Set the processes' wall clock so far ahead of the true one; below 0 behind it."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+f}s\n")
        new.replace(self._file)

    def environment(self) -> Mapping[str, str]:
        """Return what is to be added to the environment of a process.

        Raises:
            ConfigError: libfaketime is not installed.
        """
        if not self._file.exists():
            self.step(0.0)
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # a mend for an old glibc: with it, timed waits end at once here
        }


class JumpingClock:
    """A clock that runs like another one, and jumps when told."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._offset_s = 0.0

    def __call__(self) -> float:
        """Return the present time in seconds."""
        return self._clock() + self._offset_s

    def jump(self, duration_s: float) -> None:
        """Move on by `duration_s` >= 0 seconds at once."""
        if duration_s < 0:
            raise ValueError(f"a monotonic clock does not go back: {duration_s} s")
        self._offset_s += duration_s


def _library() -> Path:
    found = importlib.util.find_spec("libfaketime")
    folder = Path(found.origin).parent if found is not None and found.origin is not None else None
    library = next(folder.rglob("libfaketime.so.1"), None) if folder is not None else None
    if library is None:
        raise ConfigError("SteppedWallClock: libfaketime is not installed; pip install libfaketime (Linux alone)")
    return library
