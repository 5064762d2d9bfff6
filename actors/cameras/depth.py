"""Depth as a picture: grey, one value for each distance, below the colour picture that it is aligned to."""

import numpy as np
from jaxtyping import Float, UInt8

UNKNOWN = 0  # where the camera measures nothing
NEAREST, FARTHEST = 1, 255


def depth_picture(depth_m: Float[np.ndarray, "h w"], nearest_m: float, farthest_m: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return distances as grey: 1 at `nearest_m` and nearer, 255 at `farthest_m` and beyond, linear between.

    Args:
        depth_m: distance from the camera's plane; 0 where it is unknown, which becomes 0.
    """
    share = (depth_m - nearest_m) / (farthest_m - nearest_m)
    grey = np.rint(NEAREST + (FARTHEST - NEAREST) * np.clip(share, 0.0, 1.0))
    known = np.where(depth_m > 0.0, grey, UNKNOWN).astype(np.uint8)
    return np.repeat(known[:, :, None], 3, axis=2)


def stack(picture: UInt8[np.ndarray, "h w 3"], depth: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "2*h w 3"]:
    """Return one frame of a picture and, below it, the depth picture that belongs to it."""
    return np.concatenate((picture, depth))


def unstack(
    frame: UInt8[np.ndarray, "2*h w 3"],
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
    """Return the picture and the depth picture of a frame."""
    height = frame.shape[0] // 2
    return frame[:height], frame[height:]
