import errno
import os

import pytest

from serl_core.errors import ConfigError
from serl_core.testing.faults.disks import SmallDisk, files_up_to


def write(path, count):
    with path.open("ab", buffering=0) as file:
        return file.write(bytes(count))


def test_a_small_disk_can_be_filled_emptied_and_forbidden(tmp_path):
    if os.geteuid() != 0:
        with pytest.raises(ConfigError, match="as root"), SmallDisk(tmp_path / "disk", 2**20):
            pass
        return
    with SmallDisk(tmp_path / "disk", 2**20) as disk:
        assert disk.free() == 2**20
        disk.fill()
        assert disk.free() == 0
        with pytest.raises(OSError, match="No space") as full:
            write(disk.folder / "file", 100)
        assert full.value.errno == errno.ENOSPC
        disk.make_room()
        assert write(disk.folder / "file", 100) == 100
        disk.make_read_only()
        with pytest.raises(OSError, match="Read-only"):
            write(disk.folder / "file", 100)
        disk.make_writable()
        disk.resize(2**21)
        assert disk.free() > 2**20
    assert not list((tmp_path / "disk").iterdir())


def test_files_stay_within_the_limit_and_only_while_it_lasts(tmp_path):
    with files_up_to(1000):
        assert write(tmp_path / "file", 600) == 600
        assert write(tmp_path / "file", 600) == 400
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "file", 1)
    assert write(tmp_path / "file", 1) == 1
