"""What a human's input device, or a scripted stand-in for one, must offer the actor."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


class TeleopCommand(NamedTuple):
    """The newest wish of the human."""

    action: Float[np.ndarray, " a"]  # tool frame, in [-1, 1], the task's action scale
    is_engaged: bool  # deflected: the human wants to act now
    hands_back: bool = False  # ends the hold at once (a button, or the script); no effect while engaged
    is_lost: bool = False  # the device went silent while the human acted by it: the arm must hold until it is back


class Teleop(Protocol):
    """One device. `open` acts; the constructor only stores."""

    def open(self) -> None:
        """Start reading the device."""

    def read(self) -> TeleopCommand:
        """Return the newest command without blocking. Called at each step, and in real time many times in it."""

    def close(self) -> None:
        """Stop reading. Safe to call twice."""


@runtime_checkable
class Reporting(Protocol):
    """A teleop whose device reports by itself, so that one may ask when it last did."""

    def age_s(self) -> float | None:
        """Return the time since its newest report, None before the first. For any thread, without blocking."""
