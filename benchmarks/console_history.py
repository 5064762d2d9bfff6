"""How long the console takes to show a day of training: to read its files at the start, and to answer the page.

Run as `python benchmarks/console_history.py`. Makes 24 h of metrics.jsonl (an update a second, an episode each 8 s)
and actor.jsonl (a record a second), and prints one JSON line of wall times in s: `cold_s` from a console that has
just begun to the page's history, `warm_s` for a page that is loaded anew. Best of three, as the machine is shared.
"""

import asyncio
import json
import random
import tempfile
import time
from pathlib import Path

import msgspec

from actors.console.run_feed import RunFeed

DAY_S = 86_400
EPISODE_S = 8
POINTS = 600  # that the page asks for
REPEATS = 3


def make_run(run: Path) -> None:
    """Write a day of records, as long as those of a real run."""
    noise = random.Random(0)
    names = (
        "critic_loss",
        "entropy",
        "policy_loss",
        "q_mean",
        "q_std",
        "target_q_mean",
        "temperature",
        "updates_per_s",
    )
    with (run / "metrics.jsonl").open("w") as metrics, (run / "actor.jsonl").open("w") as actor:
        for second in range(DAY_S):
            step = 10 * second
            shared = {"time": 1.7e9 + second, "env_steps": step}
            values = {name: noise.gauss(0.0, 1.0) for name in names}
            counts = {"received": step, "duplicate": 0, "rejected": 0, "connected": 1, "skipped": 0.0, "debt": 0}
            facts = {
                "trained_env_steps": step,
                "updates": 4 * step,
                "online_transitions": step,
                "demo_transitions": 900,
            }
            metrics.write(json.dumps({"kind": "update", **shared, **facts, **values, **counts}) + "\n")
            late_ms = [round(noise.random(), 2) for _ in range(10)]
            actor.write(json.dumps({"kind": "actor", **shared, "loop_hz": 10.0, "late_ms": late_ms, **counts}) + "\n")
            if second % EPISODE_S == 0:
                rates = {"success_20": 0.5, "intervention_rate_20": noise.random(), "cycle_time_s_20": 5.0}
                episode = {"episode": second // EPISODE_S, "session": "5e55" * 8, "end": "success", "length_steps": 80}
                metrics.write(json.dumps({"kind": "episode", **shared, **episode, "is_success": True, **rates}) + "\n")


async def measured(run: Path) -> dict[str, float]:
    """Return the times of one console."""
    start_s = time.perf_counter()
    feed = RunFeed(run)
    following = asyncio.create_task(feed.follow())
    await feed.is_loaded.wait()
    reply = msgspec.json.encode(feed.history.view(0.0, POINTS))
    cold_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    reply = msgspec.json.encode(feed.history.view(0.0, POINTS))
    warm_s = time.perf_counter() - start_s
    following.cancel()
    return {"cold_s": round(cold_s, 3), "warm_s": round(warm_s, 4), "reply_mb": round(len(reply) / 1e6, 2)}


def main() -> None:
    """Make the day, read it three times."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        make_run(run)
        files_mb = sum(path.stat().st_size for path in run.iterdir()) / 1e6
        best = min((asyncio.run(measured(run)) for _ in range(REPEATS)), key=lambda times: times["cold_s"])
    print(json.dumps({"benchmark": "console_history", "files_mb": round(files_mb, 1), **best}))


if __name__ == "__main__":
    main()
