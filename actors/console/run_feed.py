"""Follows a run's files: its numbers for the curves, its episodes for the list, its newest records for the browsers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from actors.console.help import Help
from actors.console.history import History
from actors.console.tail import Record, Tail
from serl_core.clock import Clock

PERIOD_S = 0.5
MAX_EPISODES = 2000  # in the list: the newest
FILES = ("metrics.jsonl", "actor.jsonl")

Listener = Callable[[list[Record]], None]
"""Gets the records that came since the console began to follow the run, on the event loop."""


class RunFeed:
    """One run's folder, which need not exist yet. Files are read on a thread, a piece at a time.

    Args:
        run: the folder.
        listener: gets new records; not those that were there at the start: `history` has them.
    """

    def __init__(self, run: Path, listener: Listener | None = None, clock: Clock = time.monotonic) -> None:
        self.run = run
        self.history = History()
        self.episodes: deque[Record] = deque(maxlen=MAX_EPISODES)
        self.help = Help()
        self.is_loaded = asyncio.Event()  # what was there at the start is in
        self.heard_s: float | None = None  # when the learner last wrote something new; this machine's clock
        self._listener = listener
        self._clock = clock
        self._tails = [Tail(run / name) for name in FILES]

    async def follow(self) -> None:
        """Read what is there, then what comes, until cancelled."""
        while await self.read():
            pass
        self.is_loaded.set()
        while True:
            await asyncio.sleep(PERIOD_S)
            while records := await self.read():
                if self._listener is not None:
                    self._listener(records)

    async def read(self) -> list[Record]:
        """Take in the next block of each file and return its records."""
        return await asyncio.to_thread(self._read)

    def learner_age_s(self) -> float | None:
        """Return how long ago the learner last wrote something; None when it never has, as far as is known."""
        return None if self.heard_s is None else self._clock() - self.heard_s

    def _read(self) -> list[Record]:
        learner, actor = self._tails
        generation = learner.generation
        news = learner.read()
        if learner.generation != generation:  # another run in the same folder
            self.history = History()
            self.episodes.clear()
            self.help = Help()
        if news:  # of what was there at the start the wall clock tells how old it is
            written_s = news[-1].get("time")
            age_s = 0.0 if self.is_loaded.is_set() or not isinstance(written_s, float) else time.time() - written_s
            self.heard_s = self._clock() - max(age_s, 0.0)
        records = news + actor.read()
        self.history.append(records)
        for record in records:
            self.help.take(record)
            if is_episode(record):
                self.episodes.append(record)
        return records


def is_episode(record: Record) -> bool:
    """Return whether a record is the learner's of an episode that has ended."""
    return (
        record.get("kind") == "episode"
        and isinstance(record.get("session"), str)
        and isinstance(record.get("episode"), int)
    )
