"""People label frames at the console's page: a button is held down while the task is done, another while it is not."""

import math
import threading
import time

from serl_core.clock import Clock
from serl_core.operator.messages import Label
from serl_core.robots.messages import RobotState

FRESH_S = 0.25  # the page repeats the label of a button that is held about ten times a second


class PageLabel:
    """The label of the button that is held now; nothing while none is, and nothing of what was held before.

    `receive` is called on the link's thread, the rest on the control loop's.
    """

    def __init__(self, now: Clock = time.monotonic) -> None:
        self.positives = self.negatives = 0  # steps of this episode labelled so far
        self.is_discarded = False  # a person has thrown this episode away
        self._now = now
        self._lock = threading.Lock()
        self._episode: tuple[str, int] | None = None  # the running one's session and number
        self._newest: str | None = None
        self._arrived_s = -math.inf
        self._is_for_this = False  # the newest is for the running episode
        self._is_of_before = False  # held since before this episode: a success is not meant for it

    def begin(self, session: str, episode: int) -> None:
        """Begin an episode: labels for another one count no more."""
        with self._lock:
            self._episode = (session, episode)
            self.positives = self.negatives = 0
            self.is_discarded = self._is_for_this = False
            self._is_of_before = True

    def end(self) -> None:
        """Take no labels before the next episode."""
        with self._lock:
            self._episode = None
            self._is_for_this = False

    def receive(self, label: Label, arrived_s: float) -> None:
        """Take in a label; one for another episode than the running one says nothing, for it is repeated while held."""
        with self._lock:
            is_new_press = label.label != self._newest or arrived_s - self._arrived_s > FRESH_S
            self._newest, self._arrived_s = label.label, arrived_s
            self._is_for_this = self._episode is not None and _fits(label, self._episode)
            self._is_of_before = not self._is_for_this or (self._is_of_before and not is_new_press)
            if self._is_for_this and label.label == "discard":
                self.is_discarded = True

    def __call__(self, state: RobotState) -> bool | None:
        """Return the label of this step: success, no success, or None where nobody says."""
        with self._lock:
            is_held = self._is_for_this and self._now() - self._arrived_s <= FRESH_S
            if self.is_discarded or not is_held:
                return None
            if self._newest == "failure":
                self.negatives += 1
                return False
            if self._newest != "success" or self._is_of_before:
                return None
            self.positives += 1
            return True


def _fits(label: Label, episode: tuple[str, int]) -> bool:
    session, number = episode
    return label.session in (None, session) and label.episode in (None, number)
