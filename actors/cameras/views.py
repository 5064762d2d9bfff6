"""Whether each camera shows what it should at the start: something, not what another shows, and what it showed before.

What the cameras of a run showed at its first start is kept in a file in its folder, a few pixels of each.
"""

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float, UInt8

from serl_core.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

FILE = "camera-views.json"
CELLS = 8  # per side
FLAT = 2.0  # of 255: the standard deviation over a picture that shows nothing, as through a lens cap
SWAPPED = 0.5  # two cameras that are twice as alike each other's pictures of before as their own
CHANGED = 40.0  # of 255, the mean difference from before: a camera that was moved, or another light

Image = UInt8[np.ndarray, "h w 3"]
View = Float[np.ndarray, "r c 3"]


class Views(msgspec.Struct, frozen=True):
    """The file: by camera, its picture in a few cells, row by row."""

    cells: dict[str, list[float]]


def check_views(images: Mapping[str, Image], run: Path) -> list[str]:
    """Check the cameras' pictures, and against those of the run's first start, which are kept then.

    Returns:
        Warnings about cameras that show something else than before.

    Raises:
        ConfigError: one shows nothing, two show the very same, or two seem to be swapped.
        DataError: the file cannot be read or written.
    """
    _check_alone(images)
    now = {name: view(image) for name, image in images.items()}
    before = _load(run / FILE)
    if before is None:
        _save(run / FILE, now)
        return []
    known = {
        name: np.array(before[name]).reshape(CELLS, CELLS, 3)
        for name in now
        if len(before.get(name, ())) == CELLS**2 * 3
    }
    for first, second in itertools.combinations(known, 2):
        straight = apart(now[first], known[first]) + apart(now[second], known[second])
        crossed = apart(now[first], known[second]) + apart(now[second], known[first])
        if crossed < SWAPPED * straight:
            raise ConfigError(
                f"the cameras {first!r} and {second!r} seem to be swapped: each shows what the other did when this run "
                f"began; correct CameraConfig.device, or remove {run / FILE} if that is meant"
            )
    changed = [name for name in known if apart(now[name], known[name]) > CHANGED]
    warnings = [f"camera {name!r} shows something else than when this run began: was it moved?" for name in changed]
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings


def view(image: Image) -> View:
    """Return a picture in a few cells: the mean of each."""
    rows = np.array_split(np.arange(image.shape[0]), CELLS)
    columns = np.array_split(np.arange(image.shape[1]), CELLS)
    return np.array([[image[np.ix_(r, c)].mean((0, 1)) for c in columns] for r in rows])


def apart(one: View, other: View) -> float:
    """Return the mean difference of two views, whatever the light."""
    return float(np.abs((one - one.mean()) - (other - other.mean())).mean())


def _check_alone(images: Mapping[str, Image]) -> None:
    for name, image in images.items():
        spread = float(image.std())
        if spread < FLAT:
            raise ConfigError(
                f"camera {name!r} shows nothing: its pixels vary by {spread:.1f} of 255 about {image.mean():.0f}; take "
                "off the lens cap, switch on the light, or correct its exposure"
            )
    for first, second in itertools.combinations(images, 2):
        if np.array_equal(images[first], images[second]):
            raise ConfigError(f"the cameras {first!r} and {second!r} give the very same picture: correct their device")


def _load(path: Path) -> dict[str, list[float]] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Views).cells
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove it, and the cameras' present views are kept"
        ) from None


def _save(path: Path, views: Mapping[str, View]) -> None:
    cells = {name: [round(value, 1) for value in cells.ravel().tolist()] for name, cells in views.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(Views(cells)))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}); make room, or choose another folder") from None
