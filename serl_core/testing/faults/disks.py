"""Disks that are full, too small or read-only, to see what a program makes of them. Linux only.

`SmallDisk` is a real file system in memory and needs the right to mount one (`may_mount`). `files_up_to` limits the
files of a process, `read_only` takes the right to write in a folder, and both need nothing.
"""

import ctypes
import functools
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serl_core.errors import ConfigError

FILLER = ".filler"
BLOCK = 4096

_CAPABILITY_VERSION = 0x20080522  # of capset(2)
_DAC = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


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
                f"{' '.join(command)}: {done.stderr.strip()}; run it as root, or use `files_up_to` or `read_only`"
            )


@functools.cache
def may_mount() -> bool:
    """Return whether this process may have a `SmallDisk`."""
    if os.geteuid() != 0:
        return False
    try:
        with tempfile.TemporaryDirectory() as folder, SmallDisk(Path(folder) / "disk", BLOCK):
            return True
    except (ConfigError, FileNotFoundError):  # a container without that right, or without the program
        return False


@contextmanager
def files_up_to(size: int, process: int = 0) -> Iterator[None]:
    """Let no file of a process grow beyond `size` bytes: a write beyond fails with EFBIG, as on a full disk.

    Args:
        process: its number; 0 is this one.
    """
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have been killed since
            resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody make or remove a file in a folder: that fails with EACCES. For root see `obey_permissions`."""
    before = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(before)


def obey_permissions() -> None:
    """Make this process obey the permissions of files, also as root. To be called before it has threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then those of the higher numbers
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~_DAC
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
