"""Collects what the tests of the fault table observe, and prints a row each.

`pytest tests/faults --fault-table DIR` prints the table and writes `faults.json` there, which
docs/reliability.md is made of.
"""

import json
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.faults.fault_rows import NOT_SHOWN, ROWS

OBSERVED = "fault_observed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", type=Path, help="print the fault table, and write faults.json to this folder")
    parser.addoption("--fault-seed", type=int, default=0, help="of everything random in the fault table")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of everything random in this row."""
    return int(request.config.getoption("--fault-seed", 0))


@pytest.fixture
def observed(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was observed, with its figures; it stands in the table beside what was expected."""

    def say(text: str) -> None:
        request.node.user_properties.append((OBSERVED, text))

    return say


class FaultTable:
    """The rows as their tests end."""

    def __init__(self, folder: Path, seed: int, config: pytest.Config) -> None:
        self._folder, self._seed, self._config = folder, seed, config
        self._row_of: dict[str, str] = {}
        self._results: dict[str, dict[str, object]] = {}
        self._start_s = time.monotonic()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark = item.get_closest_marker("fault_row")
            if mark is not None:
                self._row_of[item.nodeid] = mark.args[0]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        name = self._row_of.get(item.nodeid)
        if name is not None:
            self._add(name, report)
        return report

    def _add(self, name: str, report: pytest.TestReport) -> None:
        first = {"passed": True, "failed": False, "observed": [], "seconds": 0.0, "tests": 0}
        result = self._results.setdefault(name, first)
        result["seconds"] = float(str(result["seconds"])) + report.duration
        result["passed"] = bool(result["passed"]) and report.passed
        result["failed"] = bool(result["failed"]) or report.failed
        if report.when != "call" and report.passed:
            return
        result["tests"] = int(str(result["tests"])) + 1
        said = [text for key, text in report.user_properties if key == OBSERVED]
        if report.skipped:
            said.append(f"not shown: {report.longrepr[2].removeprefix('Skipped: ')}")
        elif not report.passed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said.append(f"{report.outcome}: {crash.message.splitlines()[0] if crash else report.longreprtext[-200:]}")
        known = result["observed"]
        assert isinstance(known, list)
        known.extend(text for text in said if text not in known)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        write(f"{'row':4} {'':9} {'s':>6}  fault | expected | observed")
        for name, wanted in ROWS.items():
            result = self._results.get(name)
            if result is None:
                write(
                    f"{name:4} {'not shown' if name in NOT_SHOWN else '-':9} {'':6}  {wanted.fault} | "
                    f"{wanted.expected} | {NOT_SHOWN.get(name, 'not run')}"
                )
                continue
            said = result["observed"]
            assert isinstance(said, list)
            write(
                f"{name:4} {_verdict(result):9} {float(str(result['seconds'])):6.1f}  "
                f"{wanted.fault} | {wanted.expected} | {'; '.join(said)}"
            )
        verdicts = [_verdict(result) for result in self._results.values()]
        passed, failed = verdicts.count("pass"), verdicts.count("FAIL")
        seconds = time.monotonic() - self._start_s
        write(
            f"{passed} of {len(ROWS)} rows pass, {failed} fail, "
            f"{len(ROWS) - passed - failed} not shown or not run; seed {self._seed}, {seconds:.0f} s"
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        table = {"seed": self._seed, "seconds": round(seconds), "rows": self._results}
        (self._folder / "faults.json").write_text(json.dumps(table, indent=1) + "\n")


def _verdict(result: dict[str, object]) -> str:
    """Return what a row's tests came to; a failure of one counts before another that could not show anything."""
    if result["passed"]:
        return "pass"
    return "FAIL" if result["failed"] else "not shown"


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("--fault-table", None)
    if folder is not None:
        config.pluginmanager.register(FaultTable(folder, config.getoption("--fault-seed"), config))
