import os

import pytest

from serl_core.data.appending import append_line, append_whole
from serl_core.testing.faults.disks import files_up_to


@pytest.fixture
def synced(monkeypatch):
    names = []
    monkeypatch.setattr("os.fsync", lambda file: names.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}"))))
    return names


def test_lines_follow_each_other(tmp_path):
    for line in (b"a", b"bc"):
        append_line(tmp_path / "lines", line)
    assert (tmp_path / "lines").read_bytes() == b"a\nbc\n"


def test_a_line_behind_a_torn_one_is_whole(tmp_path):
    """It used to become part of the torn one in all files but one, and was lost with it."""
    (tmp_path / "lines").write_bytes(b"a\nto")
    append_line(tmp_path / "lines", b"b")
    assert (tmp_path / "lines").read_bytes().splitlines() == [b"a", b"to", b"b"]


def test_a_line_is_on_the_disk_and_the_name_of_a_new_file_too(tmp_path, synced):
    """The name was not synced: a power cut could take the file of a first veto with all that was in it."""
    append_line(tmp_path / "lines", b"a")
    assert synced == ["lines", tmp_path.name]
    append_line(tmp_path / "lines", b"b")
    assert synced == ["lines", tmp_path.name, "lines"]


def test_what_the_disk_takes_in_part_is_taken_back(tmp_path):
    append_line(tmp_path / "lines", b"first")
    with files_up_to(9), pytest.raises(OSError, match="No space left"):
        append_line(tmp_path / "lines", b"second")
    assert (tmp_path / "lines").read_bytes() == b"first\n"
    with (tmp_path / "lines").open("ab") as file, files_up_to(6), pytest.raises(OSError, match="File too large"):
        append_whole(file.fileno(), b"third")
    append_line(tmp_path / "lines", b"fourth")
    assert (tmp_path / "lines").read_bytes() == b"first\nfourth\n"
