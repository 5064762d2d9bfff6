"""What operators ask of an actor: kept here by the link's thread until the control loop looks, which never waits."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from actors.episode_labels import EpisodeLabels
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

Level = Literal["info", "warning", "error"]
TakeLabel = Callable[[Label, float], str | None]
"""Takes a label with its time of arrival; returns a sentence for its sender if it is of no use."""


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
        deny: gets each veto, to keep it and the frames of that success, without blocking.
        picture: the newest picture of a camera at the actor.
        take_label: gets the labels, if they are not for the running episode as a whole.
        awaits_person: nothing moves before the first person takes a control, or resumes.
    """

    def __init__(
        self,
        *,
        now: Clock = time.monotonic,
        free: Callable[[Recover | ResumeRobot], None] = lambda _: None,
        deny: Callable[[Veto], None] = lambda _: None,
        picture: Callable[[PictureRequest], Picture | None] = lambda _: None,
        take_label: TakeLabel | None = None,
        awaits_person: bool = False,
    ) -> None:
        self.listeners: Listeners = NoListeners()
        self.can_steer = False  # somebody reads `steer`
        self.why_not_steer = "nobody reads them here"  # for whoever tries
        self.operator: str | None = None  # who is engaged, as far as `steer` knows
        self._free, self._deny, self._picture = free, deny, picture
        self._steering = Steering(now)
        self._labels = EpisodeLabels(now)
        self._receive_label = take_label or (lambda label, _: self._labels.receive_label(label))
        self._is_paused = False
        self._awaits_person = awaits_person

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
        self._labels.begin(session, episode)

    def end_episode(self) -> None:
        """Take no labels until the next one begins."""
        label = self._labels.end()
        if label is not None:
            self.notify("warning", f"{label.label} of {label.operator} not used: the episode ended by itself before")

    def take_label(self) -> Label | None:
        """Return the label that has come for the running episode, once."""
        return self._labels.take()

    def steer(self) -> Wish | None:
        """Return what whoever steers wants; a person who was lost at the controls pauses the actor."""
        wish = self._steering.read()
        self.operator = wish.operator if isinstance(wish, Wish) and wish.is_engaged else None
        if isinstance(wish, Lost):
            self.pause(f"paused: connection to operator {wish.operator} lost", "error")
            return None
        return wish

    def command_age_s(self) -> float | None:
        """Return how old the newest command from a browser is, None before the first. For any thread."""
        return self._steering.age_s()

    def claim_success(self, session: str, episode: int) -> float:
        """Let operators veto the success that has just ended an episode; return until when (monotonic clock)."""
        return self._labels.claim(session, episode)

    def is_vetoed(self, session: str, episode: int) -> bool:
        """Return whether that success has been vetoed so far."""
        return self._labels.is_vetoed(session, episode)

    def settle(self, session: str, episode: int) -> bool:
        """Return whether that success was vetoed, for good."""
        return self._labels.settle(session, episode)

    def pause(self, text: str, level: Level = "info") -> None:
        """Take no step before a person resumes, and tell all why."""
        self._steering.forget()
        if not self._is_paused:
            self._is_paused = True
            self.notify(level, text)

    # ---- the link's side

    def receive(self, message: ToActor, arrived_s: float) -> Iterable[FromActor]:
        """Take in a message of a console; return the answers to it. Never blocks."""
        match message:
            case TeleopInput():
                return self._take_command(message, arrived_s)
            case Label():
                return _answer(message.operator, self._receive_label(message, arrived_s))
            case Veto():
                return self._take_veto(message, arrived_s)
            case Pause():
                self.pause(f"paused by {message.operator}")
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
            return _answer(command.operator, f"this actor takes no commands from a browser: {self.why_not_steer}")
        if command.engaged:
            self._awaits_person = False
        return _answer(command.operator, self._steering.take(command, arrived_s))

    def _take_veto(self, veto: Veto, arrived_s: float) -> Iterable[FromActor]:
        too_late = self._labels.receive_veto(veto, arrived_s)
        if too_late is not None:
            return _answer(veto.operator, too_late)
        self._deny(veto)
        self.notify("info", f"{veto.operator}: the success of episode {veto.episode} was none")
        return []

    def _resume(self, operator: str) -> Iterable[FromActor]:
        if not self.is_paused:
            return _answer(operator, f"{operator}: the actor is not paused")
        self._steering.forget()  # what was pushed meanwhile was not meant for the new episode
        self._is_paused = self._awaits_person = False
        self.notify("info", f"resumed by {operator}: a new episode begins")
        return []


def _answer(operator: str, sentence: str | None) -> Iterable[FromActor]:
    """Return the sentence for the one who asked; nobody else is concerned."""
    return [] if sentence is None else [OperatorNotice(level="warning", text=sentence[:1000], operator=operator)]
