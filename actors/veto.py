"""Holds a success back until no person can object to it any more, with all that comes after it."""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from actors.operator_desk import OperatorDesk
from serl_core.clock import Clock
from serl_core.types import EndReason, Transition

logger = logging.getLogger(__name__)

GRACE_S = 0.05  # for a veto that came in time and is still being read


class _Held(NamedTuple):
    transition: Transition
    until_s: float | None  # None: only as long as what stands before it


class VetoWindow:
    """Passes transitions on in order.

    Args:
        send: gets each of them once; until then it is in the memory of this process alone.
        desk: knows of vetoes.
        has_room: whether `send` can take one now.
    """

    def __init__(
        self,
        send: Callable[[Transition], None],
        desk: OperatorDesk,
        *,
        has_room: Callable[[], bool] = lambda: True,
        now: Clock = time.monotonic,
    ) -> None:
        self._send = send
        self._desk = desk
        self._has_room = has_room
        self._now = now
        self._held: deque[_Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, transition: Transition, *, veto_until_s: float | None = None) -> None:
        """Pass a transition on, or hold it until `veto_until_s` (monotonic clock)."""
        until_s = None if veto_until_s is None else veto_until_s + GRACE_S
        self._held.append(_Held(transition, until_s))
        self.pump()

    def pump(self) -> None:
        """Pass on what nobody can object to any more."""
        while self._held and (self._held[0].until_s or 0.0) <= self._now() and self._has_room():
            self._pass_on()

    def flush(self) -> None:
        """Pass on all that there is room for, at the end of the program."""
        while self._held and self._has_room():
            self._pass_on()
        if self._held:
            logger.error("%d transitions are lost: there is no room for them", len(self._held))

    def _pass_on(self) -> None:
        transition, until_s = self._held[0]
        self._send(settled(transition, self._desk) if until_s is not None else transition)
        self._held.popleft()


def settled(transition: Transition, desk: OperatorDesk) -> Transition:
    """Return a success as it is to be stored: as it was, or without its reward if it was vetoed.

    A vetoed success is no true end: the task was not done, a person only says so after the arm was taken away
    from it. So it is stored as stopped by the operator, with discount 1, and its value goes on.
    """
    provenance = transition.provenance
    assert provenance is not None  # else it cannot be sent
    if not desk.settle(provenance.session, provenance.episode):
        return transition
    return transition._replace(reward=0.0, discount=1.0, end=EndReason.OPERATOR_STOP)
