"""The human in the middle of a step: read again and again until the tick, so that a takeover need not wait for it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from actors.intervention import Arbitration, arbitrate
from actors.teleop.interface import Teleop

Action = Float[np.ndarray, " a"]


class Interrupted(Exception):
    """The step is over before its tick: an operator paused, or whoever acted was lost. It makes no transition."""


class Correction:
    """Who acts in one step, from its beginning to its end; what `ArmEnv.step` asks in between.

    Args:
        policy_action: of this step; it counts again when the human hands back before the tick.
        choice: the arbitration at the beginning.
        now_s: the robot's clock at the beginning; the hold of the human counts whole steps.
        is_paused: whether no more may be sent. A device may find out about that when it is read.

    Attributes:
        choice: the newest arbitration.
        is_intervention: the human had control in any part of the step.
    """

    def __init__(
        self,
        teleop: Teleop,
        policy_action: Action,
        choice: Arbitration,
        *,
        now_s: float,
        hold_s: float,
        is_paused: Callable[[], bool],
    ) -> None:
        self.choice = choice
        self.is_intervention = choice.is_intervention
        self._teleop = teleop
        self._policy_action = policy_action
        self._now_s, self._hold_s = now_s, hold_s
        self._is_paused = is_paused

    def revise(self) -> Action | None:
        """Return another action for the rest of the step; None if nothing changes.

        Raises:
            Interrupted: the arm must hold now.
        """
        command = self._teleop.read()
        if self._is_paused() or command.is_lost:
            raise Interrupted
        before = self.choice
        self.choice = arbitrate(self._policy_action, command, self._now_s, before.last_engaged_s, self._hold_s)
        self.is_intervention = self.is_intervention or self.choice.is_intervention
        return None if np.array_equal(before.action, self.choice.action) else self.choice.action
