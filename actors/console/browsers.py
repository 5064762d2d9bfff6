"""The browsers that are looking on, and what is said to all of them."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from actors.console.ages import CommandAge
from actors.console.outbox import Outbox, Packet

MAX_BROWSERS = 16
QUIET_S = 2.0  # in which the same notice is not repeated


def packed(kind: str, **fields: Any) -> str:
    """Return a message to a browser. What is not a finite number becomes null."""
    return msgspec.json.encode({"kind": kind, **fields}).decode()


def picture_packet(name: str, jpeg: bytes) -> bytes:
    """Return a picture as it travels: the length of its name in one byte, the name, the picture."""
    letters = name.encode()
    return bytes([len(letters)]) + letters + jpeg


class Browser:
    """One authenticated browser: its operator, and what waits for it."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.outbox = Outbox()
        self.age = CommandAge()
        self.last_sequence = -1  # of its teleop commands
        self.mistakes = 0  # messages that could not be read
        self._noticed_s: dict[str, float] = {}

    def notice(self, level: str, text: str) -> None:
        """Tell this browser something, unless it has just been told."""
        now_s = time.monotonic()
        if now_s - self._noticed_s.get(text, -QUIET_S) < QUIET_S:
            return
        self._noticed_s = {old: said_s for old, said_s in self._noticed_s.items() if now_s - said_s < QUIET_S}
        self._noticed_s[text] = now_s
        self.outbox.put_event(packed("notice", level=level, text=text))


class Browsers:
    """All browsers. Used on the event loop only, but for `is_watched`, which threads wait for."""

    def __init__(self) -> None:
        self.is_watched = threading.Event()  # somebody looks: the feeds are worth their work
        self._browsers: list[Browser] = []

    def __len__(self) -> int:
        return len(self._browsers)

    def __iter__(self) -> Iterator[Browser]:
        return iter(self._browsers)

    def add(self, operator: str) -> Browser:
        """Return a new browser. Its operator gets a number when another browser has the name already."""
        taken = {browser.operator for browser in self._browsers}
        name, number = operator, 2
        while name in taken:
            name, number = f"{operator} {number}", number + 1
        browser = Browser(name)
        self._browsers.append(browser)
        self.is_watched.set()
        return browser

    def remove(self, browser: Browser) -> None:
        """Forget a browser that is gone."""
        self._browsers.remove(browser)
        if not self._browsers:
            self.is_watched.clear()

    def put_newest(self, name: str, packet: Packet) -> None:
        """Send a reading to all; the slow ones get the next one instead."""
        for browser in self._browsers:
            browser.outbox.put_newest(name, packet)

    def put_event(self, packet: Packet, *, instead_of: str | None = None) -> None:
        """Send an event to all; see `Outbox.put_event`."""
        for browser in self._browsers:
            browser.outbox.put_event(packet, instead_of=instead_of)

    def notice(self, level: str, text: str, *, operator: str | None = None) -> None:
        """Tell something to everybody, or to one operator."""
        for browser in self._browsers:
            if operator is None or browser.operator == operator:
                browser.notice(level, text)
