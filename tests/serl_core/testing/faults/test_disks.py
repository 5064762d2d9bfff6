import errno
import multiprocessing
import time

import pytest

from serl_core.errors import ConfigError
from serl_core.testing.faults.disks import SmallDisk, files_up_to, may_mount, obey_permissions, read_only


def write(path, count):
    with path.open("ab", buffering=0) as file:
        return file.write(bytes(count))


def test_a_small_disk_can_be_filled_emptied_and_forbidden(tmp_path):
    if not may_mount():
        with pytest.raises(ConfigError, match="run it as root"), SmallDisk(tmp_path / "disk", 2**20):
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


def test_another_process_is_limited_and_this_one_is_not(tmp_path):
    child = multiprocessing.get_context("forkserver").Process(target=write_until_refused, args=(tmp_path / "file",))
    child.start()
    with files_up_to(10_000, child.pid):
        (tmp_path / "own").write_bytes(bytes(20_000))
        child.join(60)
        assert (tmp_path / "file").stat().st_size == 10_000
    assert child.exitcode == errno.EFBIG


def write_until_refused(path):
    for _ in range(6000):
        try:
            write(path, 3000)
        except OSError as error:
            raise SystemExit(error.errno) from None
        time.sleep(0.01)


def test_a_read_only_folder_takes_no_file_of_a_process_that_obeys_also_as_root(tmp_path):
    (tmp_path / "folder").mkdir()
    with read_only(tmp_path / "folder"):
        child = multiprocessing.get_context("forkserver").Process(target=touch, args=(tmp_path / "folder" / "file",))
        child.start()
        child.join(60)
    assert child.exitcode == errno.EACCES
    (tmp_path / "folder" / "file").touch()


def touch(path):
    obey_permissions()
    try:
        path.touch()
    except OSError as error:
        raise SystemExit(error.errno) from None
