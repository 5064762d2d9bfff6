"""The audit log on a disk that fails."""

import json
import logging
import threading
import time

import pytest

from robot_servers.audit import AuditLog
from robot_servers.audit_chain import verify
from robot_servers.audit_file import AuditFile
from serl_core.errors import ConfigError


def test_a_file_that_cannot_be_written_stops_nobody_and_loses_no_line(tmp_path, caplog):
    """A full disk made every request an internal error, and the lines were gone."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    path.unlink()
    path.mkdir()
    for event in ("lease", "stop"):
        log.note(event, "")
        log.flush()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert str(path) in caplog.text
    path.rmdir()
    log.note("resume", "")
    log.flush()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["lease", "stop", "resume"]


def test_a_file_that_cannot_be_opened_is_named_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match=f"audit log {tmp_path}: Is a directory"):
        AuditLog(tmp_path)


def test_a_log_to_nowhere_keeps_nothing():
    log = AuditLog(None)
    log.note("stop", "")
    log.flush()


def test_the_log_writes_by_itself_and_ends(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.start()
    log.note("lease", "first")
    while not path.read_text():
        time.sleep(0.01)
    log.note("stop", "last")
    log.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["lease", "stop"]
    assert "audit-log" not in [thread.name for thread in threading.enumerate()]
    assert verify(path).broken is None


def test_noting_waits_for_no_disk(tmp_path, monkeypatch):
    """A disk that hangs stopped whoever asked for the state."""
    log, hangs, goes_on = AuditLog(tmp_path / "audit.jsonl"), threading.Event(), threading.Event()

    def write(file: AuditFile) -> None:
        hangs.set()
        goes_on.wait()

    monkeypatch.setattr(AuditFile, "write", write)
    log.start()
    log.note("lease", "")
    assert hangs.wait(30.0)
    for _ in range(1000):
        log.note("stop", "")  # hangs for ever if it waits
    monkeypatch.undo()
    goes_on.set()
    log.close()
    assert verify(tmp_path / "audit.jsonl").lines == 1001


def test_each_line_has_the_lease_of_its_time_and_the_values(tmp_path):
    path, epochs = tmp_path / "audit.jsonl", iter([3, 4])
    log = AuditLog(path, lambda: next(epochs))
    log.note("impedance", "", old="soft", new="stiff")
    log.note("stop", "x" * 100_000)
    log.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["lease_epoch"], first["old"], first["new"]) == (3, "soft", "stiff")
    assert (second["lease_epoch"], len(second["detail"])) == (4, 2000)
