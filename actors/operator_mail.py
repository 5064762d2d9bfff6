"""Which consoles look on, and what waits to be told to each: bounded, the oldest is dropped first."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from serl_core.operator.messages import FromActor, RecordProgress, StepReport

GONE_S = 3.0  # without a word from a console; it repeats its hello each second
REPEAT_S = 1.0  # of the last report, so that consoles hear something during a long reset
WAITING = 64  # messages, for all consoles and for each


@dataclass
class _Console:
    heard_s: float
    waiting: deque[FromActor] = field(default_factory=lambda: deque(maxlen=WAITING))


class OperatorMail:
    """Only `tell` and `is_watched` may be used on another thread than the rest. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self.dropped = 0  # messages that were not taken in time
        self._consoles: dict[bytes, _Console] = {}  # by routing id; replaced, never changed, when one comes or goes
        self._waiting: deque[FromActor] = deque(maxlen=WAITING)  # for all
        self._newest: dict[type[FromActor], FromActor] = {}  # of what a console that comes later must know
        self._told_s = 0.0

    @property
    def is_watched(self) -> bool:
        """Whether there is a console."""
        return bool(self._consoles)

    def tell(self, message: FromActor) -> None:
        """Have a message for all consoles wait; nothing happens while there is none."""
        if isinstance(message, StepReport | RecordProgress):
            self._newest[type(message)] = message
        if self.is_watched:
            self._put(self._waiting, message)

    def __contains__(self, console: bytes) -> bool:
        return console in self._consoles

    def __len__(self) -> int:
        return len(self._consoles)

    def add(self, console: bytes, now_s: float) -> None:
        """Take in a console, to be told first what it must know."""
        self._consoles = self._consoles | {console: _Console(now_s, deque(self._newest.values(), WAITING))}

    def heard(self, console: bytes, now_s: float) -> None:
        """Take note of a word from a console."""
        self._consoles[console].heard_s = now_s

    def answer(self, console: bytes, message: FromActor) -> None:
        """Have a message for one console wait."""
        self._put(self._consoles[console].waiting, message)

    def forget(self, console: bytes) -> None:
        """Drop a console and what waits for it."""
        self._consoles = {name: kept for name, kept in self._consoles.items() if name != console}

    def distribute(self, now_s: float, repeat_s: float = REPEAT_S) -> Iterator[tuple[bytes, deque[FromActor]]]:
        """Yield each console that has not fallen silent, with what waits for it: take off the left what was sent.

        If there is nothing new for long, that is the last report again.
        """
        self._consoles = {name: kept for name, kept in self._consoles.items() if now_s - kept.heard_s < GONE_S}
        messages = []
        while self._waiting:
            messages.append(self._waiting.popleft())
        report = self._newest.get(StepReport)
        if not messages and report is not None and now_s - self._told_s >= repeat_s:
            messages = [report]
        if messages:
            self._told_s = now_s
        for name, console in self._consoles.items():
            for message in messages:
                self._put(console.waiting, message)
            yield name, console.waiting

    def close(self) -> None:
        """Drop all consoles: nobody is told anything any more."""
        self._consoles = {}

    def _put(self, waiting: deque[FromActor], message: FromActor) -> None:
        if len(waiting) == WAITING:
            self.dropped += 1
        waiting.append(message)
