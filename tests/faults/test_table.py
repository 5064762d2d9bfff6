"""The table is whole: every row has a test or a reason, and a row that was skipped is not called passed or failed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.fault_rows import NOT_SHOWN, ROWS

HERE = Path(__file__).parent


def rows_with_tests() -> set[str]:
    found = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "row":
                (name,) = node.args
                assert isinstance(name, ast.Constant)
                found.add(str(name.value))
    return found


def test_there_are_79_fault_12_security_and_8_load_rows() -> None:
    assert len(ROWS) == 99
    assert sum(name.startswith("X") for name in ROWS) == 12
    assert sum(name.startswith("G") for name in ROWS) == 8


def test_a_row_has_a_test_or_a_reason_and_never_both() -> None:
    shown = rows_with_tests()
    assert shown | set(NOT_SHOWN) <= set(ROWS)
    assert not shown & set(NOT_SHOWN)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["pass"], "pass"),
        (["pass", "skip"], "not shown"),
        (["skip", "fail"], "FAIL"),
        (["fail", "pass"], "FAIL"),
    ],
)
def test_a_skipped_test_leaves_its_row_not_shown(tmp_path: Path, outcomes: list[str], verdict: str) -> None:
    bodies = {"pass": "pass", "skip": "pytest.skip('needs root')", "fail": "assert False"}
    tests = [f"@row('X1')\ndef test_{i}():\n    {bodies[each]}\n" for i, each in enumerate(outcomes)]
    file = tmp_path / "test_rows.py"
    file.write_text("import pytest\nfrom tests.faults.fault_rows import row\n\n" + "\n".join(tests))
    plugin = ["-p", "tests.faults.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "--fault-table", str(tmp_path / "table"), str(file)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert re.search(rf"^X1 +{verdict} ", told, re.MULTILINE), told
    assert ("not shown: needs root" in told) == ("skip" in outcomes)
