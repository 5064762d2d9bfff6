"""Applies people's corrections of past episodes to the buffer, and after a resume at the same points of the training.

What was applied when stands in ``relabels_applied.jsonl``, so that a run that crashed learns from the same numbers
again, to the bit.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from learners.trainer import Trainer
from serl_core.data.appending import append_line
from serl_core.data.relabels import Label, Relabel, RelabelFile, label_of
from serl_core.errors import DataError
from serl_core.failpoints import failpoint

APPLIED = "relabels_applied.jsonl"


class Applied(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a line of `relabels.jsonl` began to count."""

    number: int
    env_steps: int  # were in the buffer
    trained_env_steps: int  # had been learned from


class Relabelling:
    """The corrections of one run.

    Args:
        trainer: counts how many of them it has learned from, also over a resume.
    """

    def __init__(self, run: Path, trainer: Trainer) -> None:
        self._file = RelabelFile(run)
        self._applied_path = run / APPLIED
        self._trainer = trainer
        self._known: dict[int, Applied] = {}

    def resume(self) -> Sequence[Relabel]:
        """Correct a buffer that was rebuilt as far as the checkpoint had; return the corrections that this took.

        Raises:
            DataError: a file cannot be read.
        """
        if self._applied_path.exists():
            self._known = {line.number: line for line in _read(self._applied_path)}
        lines = self._file.read()[: self._trainer.relabels]
        for count, line in enumerate(lines, start=1):
            self._apply(line, lines[:count])
        return lines

    def apply_due(self) -> list[tuple[Relabel, bool]]:
        """Apply what is due before the next update; return each line, and whether its episode is in the buffer.

        What an earlier start of this run applied is due where it was then, anything else at once.

        Raises:
            DataError: a file cannot be read or written.
        """
        lines = self._file.read()
        done = []
        while self._trainer.relabels < len(lines) and self._is_due(self._trainer.relabels):
            line = lines[self._trainer.relabels]
            if line.number not in self._known:
                self._write(line.number)
            self._trainer.relabels += 1
            done.append((line, self._apply(line, lines[: self._trainer.relabels])))
        return done

    def label_of(self, line: Relabel) -> Label | None:
        """Return what the episode of a line is labelled, as far as its lines have been applied; None: as it was."""
        return label_of((line.session, line.episode), self._file.read()[: self._trainer.relabels])

    def _is_due(self, number: int) -> bool:
        known, pacing = self._known.get(number), self._trainer.pacing
        return known is None or (
            pacing.env_steps >= known.env_steps and pacing.trained_env_steps >= known.trained_env_steps
        )

    def _apply(self, line: Relabel, so_far: Sequence[Relabel]) -> bool:
        label = label_of((line.session, line.episode), so_far)
        return self._trainer.online.relabel(line.session, line.episode, label)

    def _write(self, number: int) -> None:
        pacing = self._trainer.pacing
        applied = Applied(number=number, env_steps=pacing.env_steps, trained_env_steps=pacing.trained_env_steps)
        try:
            failpoint("relabel.apply")
            append_line(self._applied_path, msgspec.json.encode(applied))
            failpoint("relabel.applied")
        except OSError as error:
            raise DataError(
                f"cannot write {self._applied_path}: {error.strerror}; make room, then start again"
            ) from None
        self._known[number] = applied


def _read(path: Path) -> list[Applied]:
    """Return the lines of a file without a torn last one."""
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=Applied))
        except msgspec.MsgspecError:
            continue
    return lines
