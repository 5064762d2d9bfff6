"""Writes the table of docs/reliability.md from the runs of `make faults`.

python -m tests.faults.reliability_page runs/faults-0 runs/faults-1 runs/faults-2
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.fault_rows import NOT_SHOWN, ROWS

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown: how many runs a row passed, and what the last run observed."""
    lines = ["| row | fault | expected | passed | observed |", "| --- | --- | --- | --- | --- |"]
    for name, wanted in ROWS.items():
        results = [run["rows"][name] for run in runs if name in run["rows"]]
        shown = [result for result in results if result["passed"] or result["failed"]]
        passed = f"{sum(result['passed'] for result in shown)} of {len(shown)}" if shown else "not shown"
        if shown and len(shown) < len(results):
            passed += f", not shown in {len(results) - len(shown)}"
        said = "; ".join(results[-1]["observed"]) if results else NOT_SHOWN.get(name, "not run")
        cells = (name, wanted.fault, wanted.expected, passed, said)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def summary(runs: Sequence[dict[str, Any]]) -> str:
    """Return a sentence per run, and how many rows passed in each of them."""
    told = []
    for run in runs:
        passed = sum(result["passed"] for result in run["rows"].values())
        failed = sum(result["failed"] for result in run["rows"].values())
        told.append(
            f"seed {run['seed']}: {passed} of {len(ROWS)} rows pass, {failed} fail, "
            f"{len(ROWS) - passed - failed} could not be shown, in {run['seconds'] / 60:.1f} minutes"
        )
    in_all = sum(all(run["rows"].get(name, {}).get("passed", False) for run in runs) for name in ROWS)
    return "; ".join(told) + f". {in_all} rows pass in every run.\n\n"


def main(folders: Sequence[str]) -> None:
    runs = [json.loads((Path(folder) / "faults.json").read_text()) for folder in folders]
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    PAGE.write_text(head + BEGIN + summary(runs) + table(runs) + END + rest.split(END)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
