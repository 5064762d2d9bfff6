"""The table is whole: every row has a test or a reason."""

import ast
from pathlib import Path

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
