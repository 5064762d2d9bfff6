"""What people say of episodes: a label for the running one, and vetoes of successes that have just ended one."""

import threading
import time

from serl_core.clock import Clock
from serl_core.operator.messages import Label, Veto

VETO_S = 1.0
Episode = tuple[str, int]  # its session and number


class EpisodeLabels:
    """Taken in by the link's thread and asked for by the control loop; nothing here waits."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._episode: Episode | None = None  # the running one
        self._label: Label | None = None  # for it
        self._claims: dict[Episode, float] = {}  # successes that may be vetoed, until when
        self._vetoed: set[Episode] = set()

    # ---- the control loop's side

    def begin(self, session: str, episode: int) -> None:
        """Take labels for this episode from now on."""
        with self._lock:
            self._episode, self._label = (session, episode), None

    def end(self) -> Label | None:
        """Take no labels until the next one begins; return the one that came and was not taken."""
        with self._lock:
            label, self._label, self._episode = self._label, None, None
        return label

    def take(self) -> Label | None:
        """Return the label that has come for the running episode, once."""
        with self._lock:
            label, self._label = self._label, None
        return label

    def claim(self, session: str, episode: int) -> float:
        """Let a success be vetoed for `VETO_S`; return until when (monotonic clock)."""
        until_s = self._now() + VETO_S
        with self._lock:
            self._claims[session, episode] = until_s
        return until_s

    def is_vetoed(self, session: str, episode: int) -> bool:
        """Return whether a success has been vetoed so far."""
        with self._lock:
            return (session, episode) in self._vetoed

    def settle(self, session: str, episode: int) -> bool:
        """Return whether a success was vetoed, for good."""
        with self._lock:
            self._claims.pop((session, episode), None)
            is_vetoed = (session, episode) in self._vetoed
            self._vetoed.discard((session, episode))
        return is_vetoed

    # ---- the link's side

    def receive_label(self, label: Label) -> str | None:
        """Keep a label for the running episode; return a sentence for its sender if it is not meant for that one."""
        with self._lock:
            running = self._episode
            meant = (label.session or (running and running[0]), running and running[1])
            if label.episode is not None:
                meant = (meant[0], label.episode)
            if running is not None and meant == running:
                self._label = label
                return None
        return f"{label.label} of {label.operator} not used: its episode is not running any more"

    def receive_veto(self, veto: Veto, arrived_s: float) -> str | None:
        """Take a success back; return a sentence for the sender if that is not possible any more."""
        episode = (veto.session, veto.episode)
        with self._lock:
            if arrived_s > self._claims.get(episode, -1.0):
                return f"veto of {veto.operator} came too late: correct the episode's label instead"
            del self._claims[episode]  # a second one changes nothing
            self._vetoed.add(episode)
        return None
