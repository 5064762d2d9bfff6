"""How often a client may be wrong about the token before it is told to wait (SAFETY.md 2.2, rule 8)."""

import time
from collections.abc import Callable
from typing import NamedTuple

WRONG_PER_MINUTE = 5
MINUTE_S = 60.0
MAX_WAIT_S = 60.0
MAX_CLIENTS = 1024  # that are remembered; beyond, the one heard of longest ago is forgotten


class _Failures(NamedTuple):
    number: float
    last_s: float


class Answer(NamedTuple):
    """What becomes of a wrong token."""

    wait_s: float  # 0: it is refused as it is; else the client is told to wait
    is_worth_a_line: bool  # in the audit log, which nobody may flood


class WrongTokens:
    """Counts the wrong tokens of each client.

    Nobody is locked out by this: who sends the right token is never asked how often somebody at the same address was
    wrong. On one machine all clients have the same address, and a program that guesses must not take the arm away from
    the program that commands it. A token of 256 bits is not found by guessing; what is limited is the noise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, _Failures] = {}  # the one heard of longest ago comes first

    def count(self, client: str) -> Answer:
        """Count one of a client, and return what to answer."""
        now_s = self._clock()
        known = self._failures.pop(client, _Failures(0, now_s))
        forgiven = (now_s - known.last_s) / MINUTE_S * WRONG_PER_MINUTE
        number = max(0.0, known.number - forgiven) + 1.0
        while len(self._failures) >= MAX_CLIENTS:
            del self._failures[next(iter(self._failures))]
        self._failures[client] = _Failures(number, now_s)
        too_many = number - WRONG_PER_MINUTE
        wait_s = 0.0 if too_many <= 0 else min(MAX_WAIT_S, 2.0 ** min(too_many, 10.0))
        return Answer(wait_s, too_many <= 1)
