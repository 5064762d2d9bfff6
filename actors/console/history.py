"""The history of a run in bounded memory: of each number the least, the largest and the mean in equal pieces.

A piece is so many records one after the other. When the pieces run out, two neighbours become one, so a day
costs as much as an hour, and nothing that stood out is lost: only when it happened becomes less sharp.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from actors.console.pieces import Floats, Pieces, empty, grouped, joined, merge
from actors.console.tail import Record

CAPACITY = 4096  # pieces of each kind of record; even
MAX_SERIES = 128  # of each kind
DIGITS = 6  # of a value that is told
TIME, STEP = "time", "env_steps"


class Curve(NamedTuple):
    """One series, piece by piece."""

    x: list[float]  # steps of the environment, rising
    time: list[float]  # wall time
    mean: list[float]
    min: list[float]
    max: list[float]


class Series:
    """All numbers that one kind of record has."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.names: list[str] = []
        self.records = 0
        self.stride = 1  # records of a piece
        self._capacity = capacity
        self._places: dict[str, int] = {}
        self._pieces = empty(0, 0)

    def append(self, records: Sequence[Record]) -> None:
        """Add records, in order. Only their numbers are kept; a flag counts as 0 or 1."""
        if not records:
            return
        values = self._table(records)
        times, steps = (self._rising(records, name) for name in (TIME, STEP))
        start = 0
        while start < len(values):  # never more at once than fits
            end = start + self._capacity * self.stride // 2
            self._append(values[start:end], times[start:end], steps[start:end])
            start = end

    def view(self, since_s: float, points: int) -> dict[str, Curve]:
        """Return at most `points` pieces by the series' names: those after `since_s`, all when that is 0."""
        kept = self._pieces
        first = int(np.searchsorted(kept.time_s, since_s, side="right")) if since_s > 0.0 else 0
        pieces = Pieces(*(array[first:] for array in kept))
        pieces = merge(pieces, math.ceil(len(pieces.step) / points)) if len(pieces.step) > points else pieces
        # Two pieces of one step (another actor, a run gone on with) are one place of a curve.
        pieces = grouped(pieces, np.flatnonzero(np.diff(pieces.step, prepend=-math.inf)))
        with np.errstate(invalid="ignore", divide="ignore"):
            columns = [_rounded(values) for values in (pieces.total / pieces.known, pieces.low, pieces.high)]
        curves = {}
        for place, name in enumerate(self.names[: pieces.low.shape[1]]):
            known = pieces.known[:, place] > 0
            axes = [column[known, place].tolist() for column in columns]
            curves[name] = Curve(pieces.step[known].tolist(), pieces.time_s[known].tolist(), *axes)
        return curves

    def _rising(self, records: Sequence[Record], name: str) -> Floats:
        """Return a coordinate of the records, in which nothing ever goes back."""
        before = self._pieces.time_s if name == TIME else self._pieces.step
        values = np.array([before[-1] if len(before) else 0.0, *(_number(record.get(name)) for record in records)])
        return np.fmax.accumulate(values)[1:]

    def _table(self, records: Sequence[Record]) -> Floats:
        """Return the numbers of records as [records, series], NaN where one is missing."""
        alike: dict[tuple[str, ...], list[int]] = {}  # rows by the names that they have: few for many
        for row, record in enumerate(records):
            alike.setdefault(tuple(record), []).append(row)
        tables = []
        for rows in alike.values():
            names = [name for name, value in records[rows[0]].items() if _is_number(value) and name not in (TIME, STEP)]
            places = {name: place for name in names if (place := self._place(name)) is not None}
            tables.append((rows, list(places.values()), [_column(records, rows, name) for name in places]))
        values = np.full((len(records), len(self.names)), np.nan)
        for rows, columns, numbers in tables:
            if columns:
                values[np.ix_(rows, columns)] = np.array(numbers).T
        values[~np.isfinite(values)] = np.nan
        return values

    def _place(self, name: str) -> int | None:
        """Return the column of a series, a new one if need be; None when there are too many."""
        if name not in self._places:
            if len(self.names) == MAX_SERIES:
                return None
            self._places[name] = len(self.names)
            self.names.append(name)
        return self._places[name]

    def _append(self, values: Floats, times: Floats, steps: Floats) -> None:
        pieces = self._widened(values.shape[1])
        while self.records + len(values) > self._capacity * self.stride:
            pieces = merge(pieces, 2)
            self.stride *= 2
        last, filled = divmod(self.records, self.stride)
        new = Pieces(values, values, np.nan_to_num(values), np.isfinite(values).astype(float), times, steps)
        # The first records may belong to a piece that has begun: group so that they make up its rest.
        starts = np.arange(-filled, len(values), self.stride).clip(0)
        grown = grouped(new, starts)
        if filled:
            begun = grouped(joined(Pieces(*(a[last:] for a in pieces)), Pieces(*(a[:1] for a in grown))), [0])
            grown = joined(begun, Pieces(*(a[1:] for a in grown)))
            pieces = Pieces(*(a[:last] for a in pieces))
        self._pieces = joined(pieces, grown)
        self.records += len(values)

    def _widened(self, width: int) -> Pieces:
        old = self._pieces
        missing = width - old.low.shape[1]
        if not missing:
            return old
        more = empty(len(old.step), missing)
        low, high, total, known = (np.concatenate(pair, axis=1) for pair in zip(old[:4], more[:4], strict=True))
        return Pieces(low, high, total, known, old.time_s, old.step)


class History:
    """The series of a run by kind of record: update, episode, actor."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._series: dict[str, Series] = {}

    def append(self, records: Sequence[Record]) -> None:
        """Add records of any kinds, in order."""
        by_kind: dict[str, list[Record]] = {}
        for record in records:
            by_kind.setdefault(str(record.get("kind")), []).append(record)
        for kind, of_kind in by_kind.items():
            if kind not in self._series:
                self._series[kind] = Series(self._capacity)
            self._series[kind].append(of_kind)

    def view(self, since_s: float = 0.0, points: int = 1000) -> dict[str, dict[str, list[float]]]:
        """Return all series by name; of those with one name in several kinds, that of the kind that came first."""
        curves: dict[str, dict[str, list[float]]] = {}
        for series in list(self._series.values()):
            for name, curve in series.view(since_s, points).items():
                if curve.x:
                    curves.setdefault(name, curve._asdict())
        return curves


def _is_number(value: object) -> bool:
    """Return whether a field may be a number: one that is not known now may be so later."""
    return value is None or isinstance(value, (int, float))


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # an int that no float can hold
        return math.nan


def _column(records: Sequence[Record], rows: Sequence[int], name: str) -> Floats:
    """Return one field of some records, NaN where it is no number."""
    values = [records[row][name] for row in rows]
    try:
        return np.array(values, np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in values])


def _rounded(values: Floats) -> Floats:
    """Return values with six digits: what a curve shows, in half the bytes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.round(values * scale) / scale
    return np.where(np.isfinite(rounded), rounded, values)
