"""What an environment with cameras asks of whoever reads and interprets them."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, UInt8

from serl_core.robots.interface import Robot


class Sight(NamedTuple):
    """What the cameras show at one moment."""

    images: dict[str, UInt8[np.ndarray, "h w 3"]]
    features: dict[str, Float16[np.ndarray, "..."]] = {}
    success_probability: float | None = None  # of the reward classifier, where there is one
    captured_s: float | None = None  # of its oldest picture, on this machine's monotonic clock; None if not known


@runtime_checkable  # the type checks under pytest ask for it
class Vision(Protocol):
    """Cameras, the frozen encoder and the reward classifier behind one call.

    `success_threshold` is the classifier's; None without one.
    """

    success_threshold: float | None

    def open(self, robot: Robot) -> None:
        """Start the cameras. `robot` is connected: it gives the frames of `CameraSource.ROBOT`."""

    def close(self) -> None:
        """Stop the cameras. Safe to call twice."""

    def look(self) -> Sight:
        """Return the newest images, and what was made of each of them, once.

        While no camera has a new picture it is the very same object as before: whoever counts sights, as the
        classifier's votes are counted, tells them by identity.

        Raises:
            CameraFault: a camera's newest frame is too old, of another size, or there is none.
        """
