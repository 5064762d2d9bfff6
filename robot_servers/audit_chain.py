"""The audit log's chain: every line holds the hash of the line before it, also across the files of a rotation.

So a line that was changed, removed, added or moved is found. Lines cut off at the very end are not, nor a log that was
written anew from the beginning: keep the last hash that `serl audit verify` prints elsewhere to find these as well.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from serl_core.errors import DataError

BEGINNING = "0" * 64  # the hash before the first line of all
MAX_LINE_BYTES = 64 * 1024


class Verdict(NamedTuple):
    """What `verify` found."""

    lines: int  # that are sound
    newest: str  # the hash of the last of them
    broken: str | None  # the file and line where the chain is broken, and how


def chained(record: dict[str, object], previous: str) -> tuple[bytes, str]:
    """Return the line of a record, without its end, and its hash."""
    line = msgspec.json.encode({**record, "previous": previous})
    return line, digest(line)


def digest(line: bytes) -> str:
    """Return the hash that the next line must hold."""
    return hashlib.sha256(line).hexdigest()


def rotated_file(path: Path, number: int) -> Path:
    """Return where the older lines of a log go: audit.jsonl, then audit.000001.jsonl and so on."""
    return path.with_name(f"{path.stem}.{number:06d}{path.suffix}")


def rotated_files(path: Path) -> list[Path]:
    """Return the files with a log's older lines, the oldest first."""
    return sorted(path.parent.glob(f"{path.stem}.[0-9][0-9][0-9][0-9][0-9][0-9]{path.suffix}"))


def verify(path: Path) -> Verdict:
    """Follow the chain of a log through all its files, from its first line to where it is broken.

    Raises:
        DataError: a file cannot be read.
    """
    return verify_lines(
        (file.name, number, line) for file in [*rotated_files(path), path] for number, line in _of(file)
    )


def verify_lines(lines: Iterable[tuple[str, int, bytes]]) -> Verdict:
    """Follow the chain of the lines of named files."""
    count, previous = 0, BEGINNING
    for name, number, line in lines:
        broken = _broken(line, previous)
        if broken is not None:
            return Verdict(count, previous, f"{name}, line {number}: {broken}")
        count, previous = count + 1, digest(line)
    return Verdict(count, previous, None)


def _broken(line: bytes, previous: str) -> str | None:
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return "it is no whole line of JSON"
    found = record.get("previous") if isinstance(record, dict) else None
    if found == previous:
        return None
    if found is None:
        return "it holds no hash"
    return "it does not follow the line before it: one of the two was changed, or what was between them removed"


def _of(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b""), 1):
                yield number, line.removesuffix(b"\n")
    except OSError as error:
        raise DataError(f"audit log {file} cannot be read: {error.strerror}") from None
