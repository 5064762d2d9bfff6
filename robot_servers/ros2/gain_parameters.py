"""The gains on their way to the Cartesian controller: a service call sets them, so they go in steps."""

import logging
import math
from typing import Any

from robot_servers.arm_parts.gain_ramp import PUSHING_N, GainRamp
from robot_servers.ros2 import names
from robot_servers.ros2.io import RosIo
from robot_servers.ros2.state import Reading
from serl_core.robots.messages import ImpedanceParams

logger = logging.getLogger(__name__)

PERIOD_S = 0.025  # between two steps
ANSWER_S = 3.0  # of the controller, to one step


class GainParameters:
    """Ramps the gains and sends each step once the one before was taken.

    Attributes:
        has_failed: a step was refused, or not answered; nothing more is sent until `retry`.
    """

    def __init__(self, io: RosIo, params: ImpedanceParams) -> None:
        """Store."""
        self.has_failed = False
        self._io = io
        self._ramp = GainRamp(params)
        self._sent_s = 0.0  # on the arm's clock
        self._call = 0  # the newest
        self._answered = 0

    @property
    def params(self) -> ImpedanceParams:
        """The present gains."""
        return self._ramp.params

    def settle(self) -> None:
        """Be at the newest goal: before the controller runs, which is then given `params`."""
        self._ramp.settle()
        self.retry()

    def set_goal(self, params: ImpedanceParams) -> None:
        """Let the gains go to `params`."""
        self._ramp.set_goal(params)

    def retry(self) -> None:
        """Wait for no answer any more, and send again."""
        self.has_failed, self._answered, self._sent_s = False, self._call, -math.inf

    def tick(self, reading: Reading) -> None:
        """Send the next step when it is due; none of the gains rises while the arm pushes."""
        if self.has_failed or (self._ramp.is_settled and self._answered == self._call):
            return
        since_s = reading.stamp_s - self._sent_s
        if self._answered != self._call:
            if since_s > ANSWER_S:
                self._fail(f"did not answer within {ANSWER_S:g} s")
        elif since_s >= PERIOD_S:
            may_rise = math.hypot(*reading.wrench[:3]) <= PUSHING_N
            # After a pause the ramp goes on where it was, and makes up for nothing.
            params = self._ramp.advance(min(since_s, 2.0 * PERIOD_S), may_rise=may_rise)
            self._sent_s = reading.stamp_s
            self._call += 1
            number = self._call
            request = names.parameters(names.gains(params))
            self._io.call(names.SET_PARAMETERS, request, lambda reply: self._take(number, reply))

    def _take(self, number: int, reply: Any | None) -> None:
        if number != self._call or number == self._answered:
            return  # nobody waits for it any more
        self._answered = number
        if reply is None or not all(result.successful for result in reply.results):
            self._fail("refused its gains")

    def _fail(self, what: str) -> None:
        logger.error("%s %s", names.CARTESIAN_CONTROLLER, what)
        self.has_failed = True
