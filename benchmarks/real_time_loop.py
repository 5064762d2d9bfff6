"""Whether the 10 Hz loop keeps its ticks in real time while a learner trains on the same machine.

Run as `python benchmarks/real_time_loop.py --minutes 10`. Starts robot server (real time), learner and actor as
`serl demo` does, on `benchmarks/real_time_task.py`. Prints one JSON line. A tick is late by the time from its place
on the schedule, k / 10 s after the episode's reset, until the actor has the state of it. Resets have no ticks, so 10
minutes have fewer than 6000. With `--page` somebody looks on in a headless Chromium meanwhile. What else runs on the
machine makes ticks late: start it on an idle one, or put it before the rest with `setsid -w bash -c 'echo -15 >
/proc/self/autogroup; exec python benchmarks/real_time_loop.py'` as root.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from console_human import browser_at

from serl_core.cli.processes import ProcessGroup, ended_by_signals
from serl_core.data.metrics_file import read_metrics

TASK = Path(__file__).with_name("real_time_task.py")
ALLOWED_MS = 5.0
START_TIMEOUT_S = 120.0
NO_END = 10**9  # steps


def run(folder: Path, minutes: float, utd: int, batch: int, first: list[str], *, has_page: bool) -> None:
    """Let the three processes run for so long; `first` are options of the robot server and the actor."""
    with ended_by_signals(), ProcessGroup(folder / "logs") as group, ExitStack() as stack:
        group.start(
            "robot server",
            ["robot-server", "--backend", "sim", "--clock", "real_time", "--scene", "ram_insertion", "--port", "0"]
            + ["--ready-file", str(folder / "robot.url"), *first],
        )
        robot = group.wait_for_file("robot server", folder / "robot.url", START_TIMEOUT_S)
        group.start(
            "learner",
            ["learner", "--task", str(TASK), "--run", str(folder), "--steps", str(NO_END), "--utd", str(utd)]
            + ["--batch", str(batch), "--port", "0", "--ready-file", str(folder / "learner.address")],
        )
        learner = group.wait_for_file("learner", folder / "learner.address", START_TIMEOUT_S)
        group.start(
            "actor",
            ["actor", "--task", str(TASK), "--robot", robot, "--learner", learner, "--run", str(folder), *first],
        )
        if has_page:
            options = ["--run", str(folder), "--robot", robot, "--task", str(TASK), "--port", "0"]
            group.start("console", ["console", *options, "--ready-file", str(folder / "console.url")])
            url = group.wait_for_file("console", folder / "console.url", START_TIMEOUT_S)
            stack.enter_context(browser_at(f"{url}/#token={(folder / 'console.token').read_text().strip()}"))
        end_s = time.monotonic() + 60.0 * minutes
        while time.monotonic() < end_s:
            group.check()
            time.sleep(0.5)


def found(folder: Path, settle_s: float) -> dict[str, Any]:
    """Return the lateness of the ticks of a run, and how much was trained beside it."""
    records = read_metrics(folder / "actor.jsonl")
    settled = [record for record in records if record["time"] - records[0]["time"] >= settle_s]
    late_ms = np.array([value for record in settled for value in record["late_ms"]])
    if not late_ms.size:
        sys.exit(f"no tick was recorded after {settle_s:g} s; see the logs in {folder / 'logs'}")
    updates = [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "update"]
    return {
        "ticks": late_ms.size,
        "late_ms_p50": round(float(np.median(late_ms)), 2),
        "late_ms_p99": round(float(np.percentile(late_ms, 99)), 2),
        "late_ms_p99_9": round(float(np.percentile(late_ms, 99.9)), 2),
        "late_ms_max": round(float(late_ms.max()), 2),
        f"later_than_{ALLOWED_MS:g}_ms": int((late_ms > ALLOWED_MS).sum()),
        "skipped": records[-1]["late_ticks"],
        "late_ms_max_at_start": max(
            (record["late_max_ms"] for record in records if record not in settled), default=0.0
        ),
        "updates_per_s": round(float(np.median([r["updates_per_s"] for r in updates[1:]])), 1) if updates[1:] else 0.0,
        "debt": updates[-1]["debt"] if updates else None,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds at the start that do not count")
    parser.add_argument("--utd", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--fifo", action="store_true", help="robot server and actor with --real-time-priority")
    parser.add_argument("--page", action="store_true", help="look on by the console's page")
    parser.add_argument("--folder", type=Path, help="of the run; temporary if not given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run(
            folder,
            args.minutes,
            args.utd,
            args.batch,
            ["--real-time-priority"] if args.fifo else [],
            has_page=args.page,
        )
        print(json.dumps(found(folder, args.settle)))


if __name__ == "__main__":
    main()
