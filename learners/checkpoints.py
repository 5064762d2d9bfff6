"""Checkpoints that survive a crash at any moment: the newest whole one is always there to resume from.

A checkpoint is a folder: the arrays (safetensors), the facts (JSON), and the SHA-256 of both. It is
written under another name and renamed when all of it is on the disk; only then do old ones go.
Nothing in it can run code.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from serl_core.data.appending import sync_folder
from serl_core.errors import DataError
from serl_core.failpoints import failpoint

logger = logging.getLogger(__name__)

FORMAT = 2  # 1 had a folder of arrays, and sums without a format
ARRAYS, FACTS, SUMS = "arrays.safetensors", "facts.json", "sha256.json"
PARTIAL = ".partial-"
BEGIN_ANEW = "learn again from the experience with `serl learner --resume --fresh`"


class Checkpoint(NamedTuple):
    """What was saved."""

    arrays: dict[str, NDArray[Any]]  # the leaves of a pytree, by their place in it
    facts: dict[str, Any]  # plain JSON

    def arrays_like(self, template: Any) -> Any:
        """Return the pytree that was saved.

        Args:
            template: a pytree of numpy arrays with its structure, shapes and types.

        Raises:
            DataError: another one was saved.
        """
        places, tree = jax.tree_util.tree_flatten_with_path(template)
        wanted = {jax.tree_util.keystr(place): leaf for place, leaf in places}
        differ = sorted(
            name for name in wanted.keys() | self.arrays if _kind(wanted.get(name)) != _kind(self.arrays.get(name))
        )
        if differ:
            name = differ[0]
            raise DataError(
                f"the checkpoint is of another network: {len(differ)} arrays differ, such as {name}, saved as "
                f"{_kind(self.arrays.get(name))}, wanted as {_kind(wanted.get(name))}; {BEGIN_ANEW}"
            )
        return jax.tree.unflatten(tree, [self.arrays[name] for name in wanted])


class Checkpoints:
    """The checkpoints of one run, numbered upwards; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self._folder = folder.resolve()
        self._keep = keep
        self._was_there = False

    def save(self, arrays: Any, facts: dict[str, Any]) -> Path:
        """Write a new checkpoint, then delete all but the newest.

        Args:
            arrays: a pytree of numpy arrays.
            facts: plain JSON.

        Raises:
            DataError: the disk refused it; those from before are untouched.
        """
        numbers = self._numbers()
        path = self._path(numbers[-1] + 1 if numbers else 1)
        partial = path.with_name(PARTIAL + path.name)
        try:
            self._make_folder()
            for leftover in self._folder.glob(PARTIAL + "*"):  # of a crash
                shutil.rmtree(leftover)
            partial.mkdir()
            failpoint("checkpoint.begun")
            self._write(partial, {ARRAYS: _packed(arrays), FACTS: json.dumps(facts).encode()})
            partial.rename(path)
            failpoint("checkpoint.renamed")
            sync_folder(self._folder)
            failpoint("checkpoint.safe")
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(
                f"checkpoint {path} was not saved: {error.strerror or error}; those before it are whole. Make room, or "
                "give the folder back; it is tried again"
            ) from error
        self._delete_old()
        return path

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint; None if none was ever saved.

        A corrupt one is logged as an error and passed over for the one before it.

        Raises:
            DataError: there are checkpoints, and all of them are corrupt, or the newest is of another format.
        """
        numbers = self._numbers()
        for number in reversed(numbers):
            path = self._path(number)
            _require_format(path)
            try:
                return _load(path)
            except DataError as error:
                logger.error("%s; trying the one before it", error)
        if numbers:
            raise DataError(
                f"none of the {len(numbers)} checkpoints in {self._folder} is whole; put one back, or {BEGIN_ANEW}"
            )
        return None

    def any_saved(self) -> bool:
        """Return whether there is a checkpoint, whole or not."""
        return bool(self._numbers())

    def set_aside(self) -> Path | None:
        """Rename the folder, so that a run begins anew without losing what is in it; return its name."""
        if not self.any_saved():
            return None
        names = (self._folder.with_name(f"{self._folder.name}-{number}") for number in range(1, 1000))
        aside = next(name for name in names if not name.exists())
        self._folder.rename(aside)
        return aside

    def _make_folder(self) -> None:
        """Make the folder for the first checkpoint; one that has gone since is not made anew in its place."""
        if not self._was_there:
            self._folder.mkdir(parents=True, exist_ok=True)
        elif not self._folder.is_dir():
            raise FileNotFoundError(f"the folder {self._folder} is gone")
        self._was_there = True

    def _write(self, folder: Path, contents: dict[str, bytes]) -> None:
        """Bring files and their sums to the disk."""
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        manifest = json.dumps({"format": FORMAT, "files": sums}, indent=1).encode()
        for name, data in {**contents, SUMS: manifest}.items():
            with (folder / name).open("wb") as file:
                failpoint("checkpoint.file_opened")
                file.write(data)
                file.flush()
                failpoint("checkpoint.file_written")
                os.fsync(file.fileno())
                failpoint("checkpoint.file_synced")
        sync_folder(folder)
        failpoint("checkpoint.complete")

    def _delete_old(self) -> None:
        for number in self._numbers()[: -self._keep]:
            shutil.rmtree(self._path(number), ignore_errors=True)  # tried again after the next one
            failpoint("checkpoint.old_removed")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        self._was_there = True
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())


def _packed(arrays: Any) -> bytes:
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return save({jax.tree_util.keystr(place): np.ascontiguousarray(leaf).reshape(leaf.shape) for place, leaf in leaves})


def _kind(array: NDArray[Any] | None) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"


def _require_format(path: Path) -> None:
    """Refuse a whole checkpoint of another format; what cannot be told is left to `_load`."""
    try:
        found = json.loads((path / SUMS).read_bytes()).get("format", 1)
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    if found != FORMAT:
        remedy = "pip install --upgrade serl" if isinstance(found, int) and found > FORMAT else BEGIN_ANEW
        raise DataError(f"checkpoint {path} is of format {found}, this version reads {FORMAT}: {remedy}")


def _load(path: Path) -> Checkpoint:
    try:
        sums = json.loads((path / SUMS).read_bytes())["files"]
        contents = {name: (path / name).read_bytes() for name in (ARRAYS, FACTS)}
        found = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        if found != sums:
            names = sorted(name for name in {*sums, *found} if sums.get(name) != found.get(name))
            raise DataError(f"checkpoint {path} is corrupt: {names} differ from what was written")
        facts = json.loads(contents[FACTS])
        if not isinstance(facts, dict):
            raise ValueError(f"{FACTS} holds a {type(facts).__name__}")
        return Checkpoint(load(contents[ARRAYS]), facts)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error!r}") from error
