"""The chain of the audit log: each way of changing it is found, by file and line."""

import pytest

from robot_servers.audit_chain import BEGINNING, chained, rotated_file, rotated_files, verify
from robot_servers.audit_file import AuditFile
from serl_core.errors import DataError


def written(path, count, rotate_bytes=10_000):
    log = AuditFile(path, rotate_bytes)
    for i in range(count):
        log.append({"event": "lease", "detail": f"number {i}"})
        log.write()
    return log


def test_a_log_as_it_was_written_is_sound(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, 20)
    verdict = verify(path)
    assert (verdict.lines, verdict.broken) == (20, None)
    assert verdict.newest != BEGINNING


def removed(lines):
    del lines[6]


def changed(lines):
    lines[5] = lines[5].replace(b"number 5", b"number 6")


def moved(lines):
    lines[5], lines[6] = lines[6], lines[5]


def added(lines):
    lines.insert(6, chained({"event": "stop"}, BEGINNING)[0])


def without_hash(lines):
    lines[6] = b'{"event":"stop"}'


def no_json(lines):
    lines[6] = lines[6][:-5]


def no_object(lines):
    lines[6] = b"7"


def first_removed(lines):
    del lines[0]


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (removed, 7),
        (changed, 7),
        (moved, 6),
        (added, 7),
        (without_hash, 7),
        (no_json, 7),
        (no_object, 7),
        (first_removed, 1),
    ],
)
def test_whatever_was_done_to_it_is_named(tmp_path, spoil, line):
    path = tmp_path / "audit.jsonl"
    written(path, 12)
    lines = path.read_bytes().splitlines()
    spoil(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    verdict = verify(path)
    assert verdict.broken is not None
    assert verdict.broken.startswith(f"audit.jsonl, line {line}: ")
    assert verdict.lines == line - 1


def test_the_chain_goes_on_over_the_files_of_a_rotation(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, 50, rotate_bytes=1000)
    assert len(rotated_files(path)) > 3
    assert verify(path).lines == 50
    rotated_file(path, 2).unlink()
    assert "audit.000003.jsonl, line 1" in (verify(path).broken or "")


def test_the_next_run_goes_on_where_the_last_one_ended(tmp_path):
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        written(path, 7, rotate_bytes=600)
    assert (verify(path).lines, verify(path).broken) == (21, None)


def test_the_next_run_goes_on_after_a_file_that_has_just_been_rotated(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, 3)
    path.rename(rotated_file(path, 1))
    written(path, 1)
    assert (verify(path).lines, verify(path).broken) == (4, None)


def test_a_line_that_a_power_cut_left_unfinished_is_cut_off(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, 3)
    path.write_bytes(path.read_bytes() + b'{"event":"sto')
    written(path, 2)
    assert (verify(path).lines, verify(path).broken) == (5, None)


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read"):
        verify(tmp_path / "none.jsonl")


def test_the_log_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "audit.jsonl"
    written(path, 1)
    assert path.stat().st_mode & 0o077 == 0
