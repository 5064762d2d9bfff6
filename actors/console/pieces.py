"""Series of numbers in pieces: of each the least, the largest, the sum and how many; and how pieces become fewer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Pieces(NamedTuple):
    """Series side by side, piece after piece: arrays [pieces, series], and where each piece ended."""

    low: Floats  # NaN where no record had the number
    high: Floats
    total: Floats
    known: Floats
    time_s: Floats  # [pieces], wall time of the last record
    step: Floats  # [pieces], of the environment, by the last record that knew


def empty(pieces: int, series: int) -> Pieces:
    """Return pieces in which nothing is known."""
    nothing = np.full((pieces, series), np.nan)
    zero = np.zeros((pieces, series))
    return Pieces(nothing, nothing, zero, zero, np.zeros(pieces), np.zeros(pieces))


def merge(pieces: Pieces, factor: int) -> Pieces:
    """Return one piece for each `factor` neighbours."""
    return grouped(pieces, np.arange(0, len(pieces.step), factor))


def grouped(pieces: Pieces, starts: Sequence[int] | NDArray[np.intp]) -> Pieces:
    """Return one piece for each group of neighbours; `starts` are the groups' first places."""
    if not len(pieces.step):
        return pieces
    places = np.asarray(starts)
    ends = np.append(places[1:], len(pieces.step)) - 1
    return Pieces(
        np.fmin.reduceat(pieces.low, places),
        np.fmax.reduceat(pieces.high, places),
        np.add.reduceat(pieces.total, places),
        np.add.reduceat(pieces.known, places),
        pieces.time_s[ends],
        pieces.step[ends],
    )


def joined(first: Pieces, second: Pieces) -> Pieces:
    """Return the pieces of the one, then of the other."""
    return Pieces(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
