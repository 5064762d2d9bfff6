"""What a SpaceMouse said last."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

AT_REST = np.zeros(6)
AT_REST.flags.writeable = False


class PuckReading(NamedTuple):
    """The state of one device. Buttons come in the order of their names."""

    deflection: Float[np.ndarray, "6"] = AT_REST  # shift, then turn, in the puck's axes; 1 is the end of its travel
    moved_s: float = -math.inf  # when it last spoke of its puck: many times a second while that is pushed
    is_down: tuple[bool, ...] = ()
    pressed_s: tuple[float, ...] = ()  # when each button was last pressed
    buttons: tuple[str, ...] = ()  # their names
    connection: int = 0  # counts up each time that the device is opened; 0 before the first
    opened_s: float = -math.inf  # when that was
    is_connected: bool = False
