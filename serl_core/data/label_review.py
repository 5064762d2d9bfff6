"""A person looks at labelled frames: a contact sheet with a number per frame, and a small file of corrections."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from serl_core.data.labelled_frames import LabelledFrames
from serl_core.errors import DataError
from serl_core.robots.pictures import opencv

COLUMNS = 8
TILE_PX = 128  # height of an image
CAPTION_PX = 20
GREEN, RED, WHITE = (31, 122, 77), (179, 38, 30), (255, 255, 255)


class Correction(Enum):
    """What a person says of a frame."""

    SUCCESS = "success"
    FAILURE = "failure"
    DROP = "drop"  # cannot be told


Corrections = dict[int, Correction]


def contact_sheet(episodes: Sequence[LabelledFrames], first: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """Return all frames as numbered tiles; green above those labelled success, red above the others.

    Args:
        first: number of the first frame.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    tiles = [tile for episode in episodes for tile in _tiles(episode)]
    captioned = [_caption(tile, f"{number} {text}", colour) for number, (tile, text, colour) in enumerate(tiles, first)]
    height, width = captioned[0].shape[:2]
    blank = np.full((height, width, 3), WHITE, np.uint8)
    rows = [captioned[i : i + COLUMNS] for i in range(0, len(captioned), COLUMNS)]
    columns = min(COLUMNS, len(captioned))
    return np.vstack([np.hstack(row + [blank] * (columns - len(row))) for row in rows])


def read_corrections(path: Path) -> Corrections:
    """Return the corrections of a file: lines ``NUMBER success|failure|drop``, ``#`` begins a comment.

    Raises:
        DataError: there is no such file, or a line of it is not such a line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write lines such as '12 success' into it") from None
    corrections: Corrections = {}
    for place, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        known = [correction.value for correction in Correction]
        if len(words) != 2 or not words[0].isdecimal() or words[1] not in known:
            raise DataError(f"{path}, line {place}: needs a number and one of {', '.join(known)}, got {line.strip()!r}")
        if int(words[0]) in corrections:
            raise DataError(f"{path}, line {place}: frame {words[0]} has a correction already; keep one of them")
        corrections[int(words[0])] = Correction(words[1])
    return corrections


def correct(episodes: Sequence[LabelledFrames], corrections: Mapping[int, Correction]) -> list[LabelledFrames | None]:
    """Return the episodes with corrected labels; None for one all of whose frames are dropped.

    Raises:
        DataError: a number is that of no frame.
    """
    counts = [episode.is_success.size for episode in episodes]
    unknown = sorted(number for number in corrections if not 1 <= number <= sum(counts))
    if unknown:
        raise DataError(f"corrections: no frames {unknown}; the contact sheet has 1 to {sum(counts)}")
    corrected: list[LabelledFrames | None] = []
    first = 1
    for episode, count in zip(episodes, counts, strict=True):
        said = [corrections.get(number) for number in range(first, first + count)]
        label = [
            bool(old) if new is None else new is Correction.SUCCESS
            for new, old in zip(said, episode.is_success, strict=True)
        ]
        keep = np.array([new is not Correction.DROP for new in said])
        kept = episode._replace(is_success=np.array(label)).select(keep)
        corrected.append(kept if keep.any() else None)
        first += count
    return corrected


def _tiles(episode: LabelledFrames) -> list[tuple[UInt8[np.ndarray, "_ _ 3"], str, tuple[int, int, int]]]:
    """Return each frame's images side by side, its probability and its label's colour."""
    tiles = []
    for i, label in enumerate(episode.is_success):
        images = [_scaled(stack[i]) for _, stack in sorted(episode.images.items())]
        text = "" if episode.probability is None else f"p {episode.probability[i]:.3f}"
        tiles.append((np.hstack(images), text, GREEN if label else RED))
    return tiles


def _scaled(image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    cv2 = opencv("contact sheets")
    width = max(1, round(image.shape[1] * TILE_PX / image.shape[0]))
    scaled: UInt8[np.ndarray, "_ _ 3"] = cv2.resize(image, (width, TILE_PX), interpolation=cv2.INTER_AREA)
    return scaled


def _caption(tile: UInt8[np.ndarray, "_ _ 3"], text: str, colour: tuple[int, int, int]) -> UInt8[np.ndarray, "_ _ 3"]:
    cv2 = opencv("contact sheets")
    head = np.full((CAPTION_PX, tile.shape[1], 3), colour, np.uint8)
    cv2.putText(head, text, (4, CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    framed: UInt8[np.ndarray, "_ _ 3"] = cv2.copyMakeBorder(
        np.vstack([head, tile]), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=WHITE
    )
    return framed
