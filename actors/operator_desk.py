"""What operators ask of an actor: kept here by the link's thread until the control loop looks, which never waits."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from actors.operator_steering import Lost, Steering, Wish
from serl_core.clock import Clock
from serl_core.operator.messages import (
    FromActor,
    Label,
    OperatorNotice,
    Pause,
    Picture,
    PictureRequest,
    Recover,
    Resume,
    ResumeRobot,
    TeleopInput,
    ToActor,
    Veto,
)

logger = logging.getLogger(__name__)

VETO_S = 1.0
Episode = tuple[str, int]  # its session and number
Level = Literal["info", "warning", "error"]


class Listeners(Protocol):
    """The consoles. `actors.operator_link.OperatorLink` is one."""

    @property
    def is_watched(self) -> bool:
        """Whether there is one."""

    def tell(self, message: FromActor) -> None:
        """Send a message to all of them, without blocking."""


class NoListeners:
    """Nobody looks on."""

    is_watched = False

    def tell(self, message: FromActor) -> None:
        """Nobody hears it."""


class OperatorDesk:
    """The requests of all operators. Without a link nobody asks for anything.

    Args:
        free: has the robot recovered or resumed, without blocking.
        deny: has the frames of the success that was vetoed kept for review, without blocking.
        picture: the newest picture of a camera at the actor.
        awaits_person: nothing moves before the first person takes a control, or resumes.
    """

    def __init__(
        self,
        *,
        now: Clock = time.monotonic,
        free: Callable[[Recover | ResumeRobot], None] = lambda _: None,
        deny: Callable[[], None] = lambda: None,
        picture: Callable[[PictureRequest], Picture | None] = lambda _: None,
        awaits_person: bool = False,
    ) -> None:
        self.listeners: Listeners = NoListeners()
        self.can_steer = False  # somebody reads `steer`
        self.operator: str | None = None  # who is engaged, as far as `steer` knows
        self._now = now
        self._free, self._deny, self._picture = free, deny, picture
        self._steering = Steering(now)
        self._lock = threading.Lock()
        self._is_paused = False
        self._awaits_person = awaits_person
        self._episode: Episode | None = None  # the running one
        self._label: Label | None = None  # for it
        self._claims: dict[Episode, float] = {}  # successes that may be vetoed, until when
        self._vetoed: set[Episode] = set()

    # ---- the control loop's side

    @property
    def is_watched(self) -> bool:
        """Whether a console is connected."""
        return self.listeners.is_watched

    @property
    def is_paused(self) -> bool:
        """Whether no step may be taken."""
        return self._is_paused or self._awaits_person

    @property
    def awaits_person(self) -> bool:
        """Whether that is because no person has come yet."""
        return self._awaits_person and not self._is_paused

    def tell(self, message: FromActor) -> None:
        """Send a message to all consoles, without blocking."""
        self.listeners.tell(message)

    def notify(self, level: Level, text: str) -> None:
        """Tell all operators a sentence, and the log."""
        logger.log({"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[level], "%s", text)
        self.tell(OperatorNotice(level=level, text=text[:1000]))

    def begin_episode(self, session: str, episode: int) -> None:
        """Take labels for this episode from now on."""
        with self._lock:
            self._episode, self._label = (session, episode), None

    def end_episode(self) -> None:
        """Take no labels until the next one begins."""
        with self._lock:
            label, self._label, self._episode = self._label, None, None
        if label is not None:
            self.notify("warning", f"{label.label} of {label.operator} not used: the episode ended by itself before")

    def take_label(self) -> Label | None:
        """Return the label that has come for the running episode, once."""
        with self._lock:
            label, self._label = self._label, None
        return label

    def steer(self) -> Wish | None:
        """Return what whoever steers wants; a person who was lost at the controls pauses the actor."""
        wish = self._steering.read()
        self.operator = wish.operator if isinstance(wish, Wish) and wish.is_engaged else None
        if isinstance(wish, Lost):
            self._pause(f"paused: connection to operator {wish.operator} lost", "error")
            return None
        return wish

    def claim_success(self, session: str, episode: int) -> float:
        """Let operators veto the success that has just ended an episode; return until when (monotonic clock)."""
        until_s = self._now() + VETO_S
        with self._lock:
            self._claims[session, episode] = until_s
        return until_s

    def settle(self, session: str, episode: int) -> bool:
        """Return whether that success was vetoed, for good."""
        with self._lock:
            self._claims.pop((session, episode), None)
            is_vetoed = (session, episode) in self._vetoed
            self._vetoed.discard((session, episode))
        return is_vetoed

    # ---- the link's side

    def receive(self, message: ToActor, arrived_s: float) -> Iterable[FromActor]:
        """Take in a message of a console; return the answers to it. Never blocks."""
        match message:
            case TeleopInput():
                return self._take_command(message, arrived_s)
            case Label():
                return self._take_label(message)
            case Veto():
                return self._take_veto(message, arrived_s)
            case Pause():
                self._pause(f"paused by {message.operator}", "info")
            case Resume():
                return self._resume(message.operator)
            case Recover() | ResumeRobot():
                self._free(message)
            case PictureRequest():
                picture = self._picture(message)
                return [] if picture is None else [picture]
        return []

    def _take_command(self, command: TeleopInput, arrived_s: float) -> Iterable[FromActor]:
        if not self.can_steer:
            if not command.engaged:
                return []
            return [_warning("this actor takes no commands from a browser")]
        if command.engaged:
            self._awaits_person = False
        sentence = self._steering.take(command, arrived_s)
        return [] if sentence is None else [_warning(sentence)]

    def _take_label(self, label: Label) -> Iterable[FromActor]:
        with self._lock:
            running = self._episode
            meant = (label.session or (running and running[0]), running and running[1])
            if label.episode is not None:
                meant = (meant[0], label.episode)
            if running is not None and meant == running:
                self._label = label
                return []
        return [_warning(f"{label.label} of {label.operator} not used: its episode is not running any more")]

    def _take_veto(self, veto: Veto, arrived_s: float) -> Iterable[FromActor]:
        episode = (veto.session, veto.episode)
        with self._lock:
            if arrived_s > self._claims.get(episode, -1.0):
                return [_warning(f"veto of {veto.operator} came too late: correct the episode's label instead")]
            del self._claims[episode]  # a second one changes nothing
            self._vetoed.add(episode)
        self._deny()
        self.notify("info", f"{veto.operator}: the success of episode {veto.episode} was none")
        return []

    def _pause(self, text: str, level: Level) -> None:
        self._steering.forget()
        if not self._is_paused:
            self._is_paused = True
            self.notify(level, text)

    def _resume(self, operator: str) -> Iterable[FromActor]:
        if not self.is_paused:
            return [_warning(f"{operator}: the actor is not paused")]
        self._steering.forget()  # what was pushed meanwhile was not meant for the new episode
        self._is_paused = self._awaits_person = False
        self.notify("info", f"resumed by {operator}: a new episode begins")
        return []


def _warning(text: str) -> OperatorNotice:
    return OperatorNotice(level="warning", text=text[:1000])
