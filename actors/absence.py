"""What a program does while its robot gives no sign of life: wait for a minute, then take it up anew."""

import logging
import time
from collections.abc import Callable

from serl_core.clock import Clock
from serl_core.errors import RobotAway, RobotError
from serl_core.robots.interface import Robot

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0
POLL_S = 0.5


class Absence:
    """One robot's. What comes back is never the same step: whoever waits begins a new episode.

    Args:
        sleep: waits between looks; it may end the program.
        patience_s: without one completed step; then the program ends, for a person to look.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.count = 0  # how often it was away
        self._robot = robot
        self._now, self._sleep = now, sleep
        self._patience_s = patience_s
        self._since_s: float | None = None  # None: it is there

    def is_over(self) -> None:
        """Take note of a completed step: the robot is there."""
        self._since_s = None

    def wait(self, away: RobotAway, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return once the robot answers with fresh readings and its lease is taken anew.

        Args:
            meanwhile: called before each look.

        Raises:
            RobotAway: `away`, when the patience is at its end.
        """
        self.count += 1
        if self._since_s is None:
            self._since_s = self._now()
        logger.error("the robot is away (%s); nothing is recorded, waiting %g s for it at most", away, self._patience_s)
        while True:
            if self._now() - self._since_s > self._patience_s:
                raise RobotAway(
                    f"{away} (for more than {self._patience_s:g} s: look at it and its server, then start again)",
                    status=away.status,
                    field=away.field,
                ) from None
            meanwhile()
            self._sleep(POLL_S)
            if self._is_back():
                logger.warning("the robot is back after %.1f s: a new episode begins", self._now() - self._since_s)
                return

    def _is_back(self) -> bool:
        try:
            if self._robot.state().is_stale:
                return False
            self._robot.close()  # a lease of before a restart, or one that ran out, is worth nothing
            self._robot.connect()
        except RobotError as error:
            logger.info("not yet: %s", error)
            return False
        return True
