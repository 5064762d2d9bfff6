"""What a camera offers the actor: its newest frame at once, and the reason when there is none."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8


class Frame(NamedTuple):
    """One captured picture."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB, row 0 at the top; nobody may write to it
    captured_s: float  # this machine's monotonic clock: when it was asked for, or came; it is no older
    stamp_s: float | None = None  # the source's own clock, where it has one: the same stamp is the same picture


class Camera(Protocol):
    """One camera. `open` acts; the constructor only stores."""

    def open(self) -> None:
        """Start the camera; frames may follow later.

        Raises:
            ConfigError: there can never be a frame: a wrong name, or a package that is not installed.
        """

    def close(self) -> None:
        """Stop the camera. Safe to call twice."""

    def latest(self) -> Frame | None:
        """Return the newest frame, however old; None before the first. It waits for no camera."""

    def problem(self) -> str | None:
        """Return why no new frame comes, as part of a sentence; None when nothing is known to be wrong."""


DARK = 3  # of 255


def flaw(image: object) -> str | None:
    """Return what is wrong with a picture, as part of a sentence; None if it can be used."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        return f"it gives {got} instead of uint8 (height, width, 3)"
    if image.size == 0:
        return f"it gives a picture of {image.shape[0]} x {image.shape[1]} pixels"
    if image.max() < DARK:
        return f"its picture is black (no pixel reaches {DARK} of 255); is the lens covered, or the light off?"
    return None
