"""The robot's newest state, asked for ten times a second as any observer may."""

import threading
import time
from typing import NamedTuple

from actors.console.repeating import Repeating
from actors.console.robot_connection import RobotConnection
from serl_core.clock import Clock
from serl_core.errors import RobotError
from serl_core.robots.messages import Health, RobotState

PERIOD_S = 0.1


class RobotReading(NamedTuple):
    """What is known of the robot."""

    state: RobotState | None  # the last one, however old
    received_s: float  # this machine's monotonic clock
    problem: str | None  # why there is no newer one


class RobotFeed:
    """Asks on a thread of its own, so that a robot server that hangs holds up nothing else."""

    def __init__(self, connection: RobotConnection, is_watched: threading.Event, clock: Clock = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._thread = Repeating("robot-feed", self._ask, PERIOD_S, is_watched, connection.close)
        self.newest = RobotReading(None, clock(), "the robot server was not asked yet")
        self.health: Health | None = None  # of the server that was found last

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._thread.end()

    def _ask(self) -> None:
        try:
            if self.newest.problem is not None:  # perhaps another start of the server
                self.health = self._connection.get("/v1/health", Health)
            state = self._connection.get("/v1/state", RobotState)
        except RobotError as error:
            self.newest = self.newest._replace(problem=str(error))
        else:
            self.newest = RobotReading(state, self._clock(), None)
