"""Who acts in a step: the policy, or the human who takes over."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from actors.teleop.interface import TeleopCommand

NEVER_S = -math.inf


class Arbitration(NamedTuple):
    """The outcome of one step's arbitration."""

    action: Float[np.ndarray, " a"]  # in [-1, 1]: what the arm is told, before the safety clip
    is_intervention: bool
    last_engaged_s: float  # give it back in the next step


def arbitrate(
    policy_action: Float[np.ndarray, " a"],
    command: TeleopCommand,
    now_s: float,
    last_engaged_s: float,
    hold_s: float = 0.5,
) -> Arbitration:
    """Return the human's action while they are engaged and for `hold_s` after, else the policy's.

    During the hold the human's command is executed as it is, centred: a human who lets go of the
    device for a moment, or moves it through its centre, keeps control (REFERENCE section 6, fault 30).
    `hands_back` ends the hold at once.

    Args:
        last_engaged_s: when the human was last engaged; `NEVER_S` at the start of an episode.
    """
    if command.is_engaged:
        return Arbitration(np.clip(command.action, -1.0, 1.0), True, now_s)
    if command.hands_back:
        return Arbitration(policy_action, False, NEVER_S)
    # The margin makes 0.5 s exactly five steps at 10 Hz, whatever the rounding of the clock.
    if now_s - last_engaged_s < hold_s - 1e-6:
        return Arbitration(np.clip(command.action, -1.0, 1.0), True, last_engaged_s)
    return Arbitration(policy_action, False, last_engaged_s)
