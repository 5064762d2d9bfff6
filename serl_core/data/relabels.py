"""People's corrections of how past episodes ended: lines in the run's folder, which the learner reads as they come.

The log of experience stays as it was sent; what counts is the log and these lines. A line is never changed: taking a
correction back is one more line.
"""

import fcntl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from serl_core.data.appending import append_line
from serl_core.errors import DataError
from serl_core.types import EndReason

FILE = "relabels.jsonl"

Label = Literal["success", "failure"]
Episode = tuple[str, int]  # its session and number


class Relabel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line."""

    number: Annotated[int, Meta(ge=0)]  # counts up from 0
    session: str
    episode: Annotated[int, Meta(ge=0)]
    label: Label | None  # None where it takes another line back
    undoes: int | None = None  # the number of that line
    operator: str = ""
    time: float = 0.0  # wall clock, in s


class Outcome(NamedTuple):
    """How an episode's last transition is stored."""

    reward: float
    discount: float
    end: EndReason


def relabelled(label: Label | None, original: Outcome) -> Outcome:
    """Return what a label makes of an episode's end; `None` leaves it as it was.

    A success that was none is no true end, because nothing went wrong either: the arm was only taken away.
    """
    if label == "success":
        return Outcome(1.0, 0.0, EndReason.SUCCESS)
    if label == "failure" and original.end is EndReason.SUCCESS:
        return Outcome(0.0, 1.0, EndReason.OPERATOR_STOP)
    return original


def label_of(episode: Episode, lines: Sequence[Relabel]) -> Label | None:
    """Return what an episode is labelled after these lines; None if nobody has corrected it, or all was taken back."""
    standing = _standing(episode, lines)
    return standing.label if standing is not None else None


class RelabelFile:
    """The corrections of one run. Several programs may read it; one at a time writes.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = Path(run) / FILE
        self._now = now
        self._offset = 0
        self._lines: list[Relabel] = []

    def read(self) -> Sequence[Relabel]:
        """Return all lines so far; a line that is torn or not ours is passed over. Cheap while nothing is new.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            if not self.path.exists() or self.path.stat().st_size == self._offset:
                return self._lines
            with self.path.open("rb") as file:
                file.seek(self._offset)
                block = file.read()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        for text in whole.splitlines():
            try:
                line = msgspec.json.decode(text, type=Relabel)
            except msgspec.MsgspecError:
                continue
            if line.number == len(self._lines):
                self._lines.append(line)
        return self._lines

    def label_of(self, session: str, episode: int) -> Label | None:
        """Return what an episode is labelled now; None if nobody has corrected it."""
        return label_of((session, episode), self.read())

    @property
    def can_undo(self) -> bool:
        """Whether there is a correction to take back."""
        return _standing(None, self.read()) is not None

    def add(self, session: str, episode: int, label: Label, operator: str = "") -> Relabel:
        """Correct an episode; on return the line survives a power cut.

        Raises:
            DataError: the line cannot be written.
        """
        return self._append(lambda number: self._line(number, session, episode, label, None, operator))

    def undo(self, operator: str = "", *, session: str | None = None, episode: int | None = None) -> Relabel:
        """Take the newest correction back that still stands; that of one episode, if it is named.

        Raises:
            DataError: there is none, or the line cannot be written.
        """

        def taken_back(number: int) -> Relabel:
            wanted = None if session is None or episode is None else (session, episode)
            standing = _standing(wanted, self._lines)
            if standing is None:
                raise DataError(f"{self.path}: there is no correction to take back")
            return self._line(number, standing.session, standing.episode, None, standing.number, operator)

        return self._append(taken_back)

    def _line(
        self, number: int, session: str, episode: int, label: Label | None, undoes: int | None, operator: str
    ) -> Relabel:
        return Relabel(
            number=number,
            session=session,
            episode=episode,
            label=label,
            undoes=undoes,
            operator=operator,
            time=round(self._now(), 3),
        )

    def _append(self, make: Callable[[int], Relabel]) -> Relabel:
        try:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self.read()
                line = make(len(self._lines))
                append_line(self.path, msgspec.json.encode(line))
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}; make room on its disk") from None
        self.read()
        return line


def _standing(episode: Episode | None, lines: Sequence[Relabel]) -> Relabel | None:
    """Return the newest correction that was not taken back, of any episode if none is named."""
    undone = {line.undoes for line in lines}
    for line in reversed(lines):
        is_wanted = episode is None or (line.session, line.episode) == episode
        if is_wanted and line.undoes is None and line.number not in undone:
            return line
    return None
