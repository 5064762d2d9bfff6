"""Disks that are full, too small or read-only, to see what a program makes of them. Linux only.

`SmallDisk` is a real file system in memory and needs the right to mount one (root); `files_up_to` limits
the files of this process and needs nothing.
"""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serl_core.errors import ConfigError

FILLER = ".filler"
BLOCK = 4096


class SmallDisk:
    """A disk of `size` bytes at `folder`, while it is entered; what is written there is gone afterwards.

    Args:
        folder: made when missing; what is in it cannot be seen meanwhile.
        size: in bytes; a whole number of pages is taken.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size

    def __enter__(self) -> "SmallDisk":
        """Mount it. Raises ConfigError when that is not allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._call("mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._call("umount", "--lazy", str(self.folder))  # also when a program has forgotten to close a file

    def free(self) -> int:
        """Return how many bytes are left."""
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def fill(self) -> None:
        """Take all room that is left."""
        with (self.folder / FILLER).open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(BLOCK))

    def make_room(self) -> None:
        """Give back what `fill` took."""
        (self.folder / FILLER).unlink(missing_ok=True)

    def resize(self, size: int) -> None:
        """Make it smaller or larger."""
        self._remount(f"size={size}")

    def make_read_only(self) -> None:
        """Refuse every write from now on. Raises ConfigError while a file is open for writing."""
        self._remount("ro")

    def make_writable(self) -> None:
        """Undo `make_read_only`."""
        self._remount("rw")

    def _remount(self, option: str) -> None:
        self._call("mount", "-o", f"remount,{option}", str(self.folder))

    def _call(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                f"{' '.join(command)}: {done.stderr.strip()}; run it as root, or limit files with `files_up_to` instead"
            )


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: a write beyond fails with EFBIG, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
