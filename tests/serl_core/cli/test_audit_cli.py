"""`serl audit verify` on a whole log, a broken one and none."""

from robot_servers.audit import AuditLog
from serl_core.cli.main import main


def test_a_whole_log_is_said_to_be_whole_and_a_broken_one_is_named_by_its_line(tmp_path, capsys):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    for number in range(5):
        log.note("lease", f"number {number}")
    log.close()
    assert main(["audit", "verify", str(path)]) == 0
    assert capsys.readouterr().out.startswith("5 lines, each follows the one before it")

    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], *lines[4:]]))
    assert main(["audit", "verify", str(path)]) == 2
    assert "audit.jsonl, line 4: it does not follow the line before it" in capsys.readouterr().err


def test_a_log_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["audit", "verify", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
