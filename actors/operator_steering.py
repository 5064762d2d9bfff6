"""Who steers from a browser, and what they want now: one person at a time, and a dead man's switch."""

import threading
import time
from typing import NamedTuple

from serl_core.clock import Clock
from serl_core.operator.messages import TeleopInput

MAX_AGE_S = 0.2  # of a command, from the person's hand until it is used
WATCH_S = 2.0  # others only watch until so long after the last engaged command
NOTICE_S = 2.0  # in which a person is told once that another steers


class Wish(NamedTuple):
    """The newest command of whoever steers."""

    operator: str
    twist: tuple[float, ...]  # [6], tool frame, in [-1, 1]
    gripper: float | None  # -1 closed, 1 open; None: as it is
    is_engaged: bool
    hands_back: bool


class Lost(NamedTuple):
    """The commands of an engaged person have ceased: a frozen tab, or a connection that is cut."""

    operator: str


class Steering:
    """Takes commands in on one thread and gives the newest on another; neither waits for anything."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._sequences: dict[str, int] = {}  # the newest of each operator
        self._operator: str | None = None  # who was engaged last
        self._engaged_s = 0.0  # when
        self._newest: tuple[TeleopInput, float] | None = None  # of `_operator`, and when their hand moved
        self._is_held = False  # engaged by a fresh command, and not let go since
        self._noticed_s: dict[str, float] = {}
        self._moved_s: float | None = None  # when the hand moved of the newest command there was

    def take(self, command: TeleopInput, arrived_s: float) -> str | None:
        """Take in a command; return a sentence for its sender where another one steers.

        One that waited on its way, as while the actor or the console stood still, is as old as that: its age counts
        from when the console sent it.
        """
        moved_s = min(command.sent_s, arrived_s) - command.age_ms / 1e3
        with self._lock:
            if command.sequence <= self._sequences.get(command.operator, -1):
                return None
            self._sequences[command.operator] = command.sequence
            self._moved_s = moved_s
            is_free = self._operator is None or arrived_s - self._engaged_s >= WATCH_S
            if command.engaged and arrived_s - moved_s < MAX_AGE_S:
                if not is_free and self._operator != command.operator:
                    return self._others_turn(command.operator, arrived_s)
                self._operator, self._engaged_s, self._is_held = command.operator, arrived_s, True
            if command.operator == self._operator or (is_free and not self._is_held):
                self._newest = (command, moved_s)
            return None

    def read(self) -> Wish | Lost | None:
        """Return what the person who steers wants now; None if nobody does, `Lost` once when they are gone."""
        with self._lock:
            if self._newest is None:
                return None
            command, moved_s = self._newest
            if self._now() - moved_s > MAX_AGE_S:
                was_held, self._is_held, self._newest = self._is_held, False, None
                return Lost(command.operator) if was_held and command.engaged else None
            self._is_held = command.engaged
            return Wish(command.operator, command.twist, command.gripper, command.engaged, command.hands_back)

    def age_s(self) -> float | None:
        """Return how old the newest command of anybody is, None before the first. For any thread."""
        moved_s = self._moved_s
        return None if moved_s is None else self._now() - moved_s

    def forget(self) -> None:
        """Forget the commands so far, and who steered."""
        with self._lock:
            self._operator, self._newest, self._is_held = None, None, False

    def _others_turn(self, operator: str, now_s: float) -> str | None:
        if now_s - self._noticed_s.get(operator, -NOTICE_S) < NOTICE_S:
            return None
        self._noticed_s[operator] = now_s
        return f"{self._operator} is steering; {operator} watches until {WATCH_S:g} s after the last command"
