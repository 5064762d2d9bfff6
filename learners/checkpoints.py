"""Checkpoints that survive a crash at any moment: the newest whole one is always there to resume from.

A checkpoint is a folder: the arrays (orbax), the facts (JSON), and the SHA-256 of every file. It is
written under another name and renamed when all of it is on the disk; only then do old ones go.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from serl_core.errors import DataError

logger = logging.getLogger(__name__)

ARRAYS, FACTS, SUMS = "arrays", "facts.json", "sha256.json"
PARTIAL = ".partial-"


class Checkpoint(NamedTuple):
    """What was saved."""

    arrays: Any  # a pytree of numpy arrays
    facts: dict[str, Any]  # plain JSON


class Checkpoints:
    """The checkpoints of one run, numbered upwards; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self._folder = folder.resolve()
        self._keep = keep

    def save(self, arrays: Any, facts: dict[str, Any]) -> Path:
        """Write a new checkpoint, then delete all but the newest.

        Raises:
            DataError: the disk refused it; those from before are untouched.
        """
        numbers = self._numbers()
        path = self._path(numbers[-1] + 1 if numbers else 1)
        partial = path.with_name(PARTIAL + path.name)
        try:
            for leftover in self._folder.glob(PARTIAL + "*"):  # of a crash
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save(partial / ARRAYS, arrays)
            (partial / FACTS).write_text(json.dumps(facts))
            (partial / SUMS).write_text(json.dumps(_sums(partial), indent=1))
            _flush(partial)
            partial.rename(path)
            _flush_folder(self._folder)
        except (OSError, ValueError) as error:  # tensorstore reports a full disk as ValueError
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(f"checkpoint {path} was not saved: {error}; those before it are whole") from error
        for number in self._numbers()[: -self._keep]:
            shutil.rmtree(self._path(number))
        return path

    def newest(self, template: Any) -> Checkpoint | None:
        """Return the newest whole checkpoint; None if none was ever saved.

        A corrupt one is logged as an error and passed over for the one before it.

        Args:
            template: a pytree of numpy arrays with the structure that was saved.

        Raises:
            DataError: there are checkpoints, and all of them are corrupt.
        """
        numbers = self._numbers()
        for number in reversed(numbers):
            path = self._path(number)
            try:
                return _load(path, template)
            except DataError as error:
                logger.error("%s; trying the one before it", error)
        if numbers:
            raise DataError(f"none of the {len(numbers)} checkpoints in {self._folder} is whole; start a new run")
        return None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())


def _load(path: Path, template: Any) -> Checkpoint:
    try:
        sums = json.loads((path / SUMS).read_text())
        found = _sums(path)
        if found != sums:
            names = sorted(name for name in {*sums, *found} if sums.get(name) != found.get(name))
            raise DataError(f"checkpoint {path} is corrupt: {names} differ from what was written")
        facts = json.loads((path / FACTS).read_text())
        with ocp.PyTreeCheckpointer() as checkpointer:
            arrays = checkpointer.restore(path / ARRAYS, item=template)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error}") from error
    return Checkpoint(jax.tree.map(lambda like, array: array.astype(like.dtype), template, arrays), facts)


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder` but the list itself."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / SUMS
    }


def _flush(folder: Path) -> None:
    """Wait until all below `folder` is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        _flush_folder(path)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
