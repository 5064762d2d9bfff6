"""Appends to files that people and programs go on with after a crash: whole, and where asked on the disk itself."""

import errno
import os
from pathlib import Path

from serl_core.failpoints import failpoint


def append_whole(file: int, *parts: bytes) -> None:
    """Append all of `parts`, or nothing.

    Args:
        file: a descriptor opened with O_APPEND, of which this is the only writer.

    Raises:
        OSError: the disk refused it.
    """
    written = os.writev(file, parts)
    if written != sum(map(len, parts)):
        os.ftruncate(file, os.fstat(file).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def append_line(path: Path, line: bytes) -> None:
    """Append a line, behind a torn one on a line of its own; on return it survives a power cut.

    Raises:
        OSError: the disk refused it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        is_torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        failpoint("line.opened")
        append_whole(file, b"\n" * is_torn + line + b"\n")
        failpoint("line.written")
        os.fsync(file)
        failpoint("line.synced")
        if size == 0:  # its name may be new
            sync_folder(path.parent)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
