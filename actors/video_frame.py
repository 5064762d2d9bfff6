"""Draws a control step: camera images, bars of action, force and torque, and the success probability."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from serl_core.errors import ConfigError
from serl_core.types import ActionSpec

FORCE_SCALE_N = 50.0  # a full bar
TORQUE_SCALE_NM = 5.0
MARGIN_PX = 16
TILE_PX = 296  # height of the camera images; two square ones fill the least width
MIN_WIDTH_PX = 640
MAX_WIDTH_PX = 1280
HEADER_PX = 48
ROW_PX = 20
BAR_PX = 12
BORDER_PX = 8  # while a human acts

BACKGROUND = (255, 255, 255)  # RGB; the colours of the run's report
INK = (28, 36, 48)
FAINT = (74, 86, 101)
TRACK = (221, 227, 234)
BLUE = (36, 86, 166)
GREEN = (31, 122, 77)
AMBER = (179, 107, 0)
RED = (179, 38, 30)

Colour = tuple[int, int, int]
Picture = UInt8[np.ndarray, "h w 3"]


class VideoFrame(NamedTuple):
    """What one frame of the video shows: a control step."""

    images: dict[str, UInt8[np.ndarray, "h w 3"]]  # RGB; empty for a task without cameras
    action: Float32[np.ndarray, " a"]  # in [-1, 1]; of whoever had control
    force_n: Float[np.ndarray, "3"] | Sequence[float]
    torque_nm: Float[np.ndarray, "3"] | Sequence[float]
    success_probability: float | None  # None without a reward classifier
    success_threshold: float | None
    is_intervention: bool
    step: int
    caption: str
    action_names: tuple[str, ...] = ()  # one for each number of `action`, as of `action_names`; counted if empty


def action_names(spec: ActionSpec) -> tuple[str, ...]:
    """Return a short name for each number of an action: ``x`` to ``rz`` of a twist, ``left x`` with two arms."""
    names: list[str] = []
    for block in spec.blocks:
        *arm, kind = block.name.split("/")
        parts = ["x", "y", "z", "rx", "ry", "rz"] if (kind, block.size) == ("twist", 6) else [kind]
        if len(parts) != block.size:
            parts = [f"{kind} {i}" for i in range(block.size)]
        names.extend(" ".join([*arm, part]) for part in parts)
    return tuple(names)


def draw(frame: VideoFrame) -> Picture:
    """Return a picture of a control step: RGB, of even sides that depend on the sizes in `frame` alone.

    Raises:
        ConfigError: the package that draws is missing.
        ValueError: `action` has not as many numbers as names.
    """
    rows = _tile_rows(frame.images)
    width = max([MIN_WIDTH_PX, *(row.shape[1] + 2 * MARGIN_PX for row in rows)])
    width += width % 2
    cameras = [_centred(row, width) for row in rows]
    picture = np.vstack([_header(frame, width), *cameras, _signals(frame, width), _success(frame, width)])
    picture = picture[: len(picture) // 2 * 2]
    if frame.is_intervention:
        for side in (picture[:BORDER_PX], picture[-BORDER_PX:], picture[:, :BORDER_PX], picture[:, -BORDER_PX:]):
            side[:] = RED
    return picture


def _header(frame: VideoFrame, width: int) -> Picture:
    strip = _blank(HEADER_PX, width)
    middle = MARGIN_PX + BAR_PX
    right = width - MARGIN_PX
    right -= _text(strip, f"step {frame.step}", right, middle, FAINT, align=1.0) + MARGIN_PX
    if frame.is_intervention:
        badge = _text_width("INTERVENTION", is_bold=True) + MARGIN_PX
        strip[middle - 12 : middle + 12, right - badge : right] = RED
        _text(strip, "INTERVENTION", right - badge // 2, middle, BACKGROUND, align=0.5, is_bold=True)
        right -= badge + MARGIN_PX
    _text(strip, _shortened(frame.caption, right - MARGIN_PX), MARGIN_PX, middle, is_bold=True)
    return strip


def _tile_rows(images: dict[str, Picture]) -> list[Picture]:
    """Return the images, named and of one height, side by side in as few rows as fit."""
    rows: list[list[Picture]] = []
    room = 0
    for name, image in images.items():
        tile = _tile(name, image)
        if tile.shape[1] > room:
            rows.append([])
            room = MAX_WIDTH_PX - 2 * MARGIN_PX
        gap = [_blank(len(tile), MARGIN_PX)] if rows[-1] else []
        rows[-1] += [*gap, tile]
        room -= tile.shape[1] + MARGIN_PX
    return [np.hstack(row) for row in rows]


def _tile(name: str, image: Picture) -> Picture:
    """Return an image at the tiles' height, under its name; a very wide one keeps its shape and is lower."""
    cv2 = vision_package("cv2")
    height, width, _ = image.shape
    scale = min(TILE_PX / height, (MAX_WIDTH_PX - 2 * MARGIN_PX) / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = _blank(ROW_PX + TILE_PX + MARGIN_PX, size[0])
    top = ROW_PX + (TILE_PX - size[1]) // 2
    tile[top : top + size[1]] = cv2.resize(image, size, interpolation=how)
    _text(tile, _shortened(name, size[0]), 0, ROW_PX // 2 - 2, FAINT)
    return tile


def _signals(frame: VideoFrame, width: int) -> Picture:
    """Return the bars of the action, beside those of force and torque."""
    column = (width - 3 * MARGIN_PX) // 2
    names = frame.action_names or tuple(f"{i}" for i in range(len(frame.action)))
    who, colour = ("human", RED) if frame.is_intervention else ("policy", BLUE)
    action = _block(column, f"action of the {who}", names, frame.action, 1.0, colour, "{:+.2f}")
    force = _block(column, "force, N", ("x", "y", "z"), frame.force_n, FORCE_SCALE_N, BLUE, "{:+.1f}")
    torque = _block(column, "torque, Nm", ("x", "y", "z"), frame.torque_nm, TORQUE_SCALE_NM, BLUE, "{:+.2f}")
    wrench = np.vstack([force, torque])
    strip = _blank(max(len(action), len(wrench)), width)
    strip[: len(action), MARGIN_PX : MARGIN_PX + column] = action
    strip[: len(wrench), -MARGIN_PX - column : -MARGIN_PX] = wrench
    return strip


def _block(
    width: int,
    title: str,
    names: Sequence[str],
    values: Float[np.ndarray, " n"] | Sequence[float],
    scale: float,
    colour: Colour,
    form: str,
) -> Picture:
    """Return a titled bar for each value, from -scale to scale; amber where it is beyond."""
    strip = _blank(ROW_PX * (len(names) + 1) + MARGIN_PX // 2, width)
    room = width // 3
    left = 8 + min(room, max([24, *(_text_width(name, is_bold=True) for name in names)]))
    right = width - 60
    middle, half = (left + right) // 2, (right - left) // 2
    _text(strip, title, 0, ROW_PX // 2 - 2, is_bold=True)
    _text(strip, f"-{scale:g} to {scale:g}", right, ROW_PX // 2 - 2, FAINT, align=1.0)
    for row, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        y = row * ROW_PX + ROW_PX // 2
        bar = strip[y - BAR_PX // 2 : y + BAR_PX // 2]
        bar[:, left:right] = TRACK
        end = middle + round(half * float(np.clip(np.nan_to_num(value / scale), -1.0, 1.0)))
        bar[:, min(middle, end) : max(middle, end)] = colour if abs(value) <= scale else AMBER
        strip[y - BAR_PX // 2 - 2 : y + BAR_PX // 2 + 2, middle : middle + 1] = INK
        _text(strip, _shortened(name, room), 0, y, FAINT)
        _text(strip, form.format(float(value)), width, y, align=1.0)
    return strip


def _success(frame: VideoFrame, width: int) -> Picture:
    """Return the bar of the success probability, green from its threshold on."""
    strip = _blank(2 * ROW_PX + MARGIN_PX, width)
    left, right, y = MARGIN_PX + 80, width - MARGIN_PX - 60, ROW_PX // 2
    probability, threshold = frame.success_probability, frame.success_threshold
    bar = strip[y - BAR_PX // 2 : y + BAR_PX // 2]
    bar[:, left:right] = TRACK
    _text(strip, "success", MARGIN_PX, y, is_bold=True)
    if probability is None:
        _text(strip, "no classifier", left, y + ROW_PX, FAINT)
        return strip
    is_success = threshold is not None and probability >= threshold
    reach = float(np.clip(np.nan_to_num(probability), 0.0, 1.0))
    bar[:, left : left + round((right - left) * reach)] = GREEN if is_success else BLUE
    _text(strip, f"{probability:.2f}", width - MARGIN_PX, y, align=1.0)
    if threshold is not None:
        x = left + round((right - left) * threshold)
        strip[y - BAR_PX // 2 - 3 : y + BAR_PX // 2 + 3, x - 1 : x + 1] = INK
        label = f"threshold {threshold:.2f}"
        half = _text_width(label) // 2
        _text(strip, label, min(max(x, left + half), right - half), y + ROW_PX, FAINT, align=0.5)
    return strip


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _centred(strip: Picture, width: int) -> Picture:
    """Return `strip` in the middle of a wider one."""
    wide = _blank(len(strip), width)
    left = (width - strip.shape[1]) // 2
    wide[:, left : left + strip.shape[1]] = strip
    return wide


def _text(
    strip: Picture, text: str, x: int, middle: int, colour: Colour = INK, *, align: float = 0.0, is_bold: bool = False
) -> int:
    """Write text into `strip` around a height; `align` 0 begins at x, 1 ends there. Return its width."""
    cv2 = vision_package("cv2")
    width = _text_width(text, is_bold=is_bold)
    (_, capital), _ = cv2.getTextSize("0", *_font(is_bold))
    font, size, thickness = _font(is_bold)
    at = (x - round(align * width), middle + (capital - 1) // 2)
    cv2.putText(strip, text, at, font, size, colour, thickness, cv2.LINE_AA)
    return width


def _text_width(text: str, *, is_bold: bool = False) -> int:
    (width, _), _ = vision_package("cv2").getTextSize(text, *_font(is_bold))
    return int(width)


def _font(is_bold: bool) -> tuple[int, float, int]:
    cv2 = vision_package("cv2")
    return (cv2.FONT_HERSHEY_DUPLEX if is_bold else cv2.FONT_HERSHEY_SIMPLEX), 0.45, 1


def _shortened(text: str, room: int) -> str:
    """Return as much of `text` as fits into `room` pixels."""
    if _text_width(text, is_bold=True) <= room:
        return text
    while text and _text_width(text + "...", is_bold=True) > room:
        text = text[:-1]
    return text + "..."


def vision_package(name: str) -> ModuleType:
    """Import a package of the extra `vision`, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(f"videos need the package {name!r}, which is missing: pip install 'serl[vision]'") from None
