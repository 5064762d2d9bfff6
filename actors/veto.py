"""Holds a success back from the learner until no person can object to it any more, with all that comes after it."""

import time
from typing import NamedTuple, Protocol

from actors.operator_desk import OperatorDesk
from serl_core.clock import Clock
from serl_core.types import EndReason, Transition

GRACE_S = 0.05  # for a veto that came in time and is still being read


class Holds(Protocol):
    """Keeps transitions, and offers them in order. `actors.spool.SpooledSender` is one, and keeps them on the disk."""

    def send(self, transition: Transition, *, is_held: bool = False) -> None:
        """Keep a transition; offer neither a held one nor what comes after it before its release."""

    def release(self, held: Transition, amended: Transition | None = None) -> None:
        """Let a held transition go, with `amended` in its place if given."""


class _Claim(NamedTuple):
    success: Transition
    until_s: float


class VetoWindow:
    """Passes transitions on at once, and says of each success that may be vetoed when it is settled.

    So nothing waits in the memory of this process: one that is killed leaves every step behind, its last success
    as it was, or as a veto has made it that was seen before.

    Args:
        sender: gets each transition once.
        desk: knows of vetoes.
    """

    def __init__(self, sender: Holds, desk: OperatorDesk, *, now: Clock = time.monotonic) -> None:
        self._sender = sender
        self._desk = desk
        self._now = now
        self._claims: dict[tuple[str, int], _Claim] = {}  # by session and episode

    def put(self, transition: Transition, *, veto_until_s: float | None = None) -> None:
        """Pass a transition on; what may be vetoed until then (monotonic clock) is held back by the sender."""
        self._sender.send(transition, is_held=veto_until_s is not None)
        if veto_until_s is not None:
            self._claims[_episode(transition)] = _Claim(transition, veto_until_s + GRACE_S)

    def pump(self) -> None:
        """Settle what has been vetoed, and what nobody can object to any more."""
        now_s = self._now()
        for episode, claim in tuple(self._claims.items()):
            if claim.until_s <= now_s or self._desk.is_vetoed(*episode):
                self._settle(episode)

    def flush(self) -> None:
        """Settle everything, at the end of the program."""
        for episode in tuple(self._claims):
            self._settle(episode)

    def _settle(self, episode: tuple[str, int]) -> None:
        success = self._claims[episode].success
        stored = settled(success, self._desk)
        self._sender.release(success, None if stored is success else stored)
        del self._claims[episode]


def settled(transition: Transition, desk: OperatorDesk) -> Transition:
    """Return a success as it is to be stored: as it was, or without its reward if it was vetoed."""
    return vetoed(transition) if desk.settle(*_episode(transition)) else transition


def vetoed(success: Transition) -> Transition:
    """Return what a veto makes of a success.

    It is no true end: the task was not done, a person only says so after the arm was taken away from it. So it is
    stored as stopped by the operator, with discount 1, and its value goes on.
    """
    return success._replace(reward=0.0, discount=1.0, end=EndReason.OPERATOR_STOP)


def _episode(transition: Transition) -> tuple[str, int]:
    assert transition.provenance is not None  # else it cannot be sent
    return transition.provenance.session, transition.provenance.episode
