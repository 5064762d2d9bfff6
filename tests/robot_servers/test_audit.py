"""The audit log on a disk that fails."""

import json
import logging

import pytest

from robot_servers.audit import AuditLog
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
