"""What many actors at once cost: rows G1 to G4, G7 and G8 of the fault table.

Run as `python benchmarks/load.py`. Prints one JSON line. Each actor is a process: it steps at a rate like a real one,
through the real spool and link, with frames and features of the real size. The learner is a process with the real
link, intake and log, and without JAX: it trains nothing.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.load_rig import ActorResult, LearnerResult, Load, rig


class Summary(NamedTuple):
    """What a load came to."""

    made: int
    logged: int
    lost_or_doubled: int
    left: int
    ack_ms_p50: float
    ack_ms_p99: float
    late_ms_p99: float
    late_ms_max: float
    sleeper_late_ms_p99: float  # of a process that only slept: the machine's own share of it
    wire_kib: float  # per transition, what was sent again included
    actor_cpu: float  # of a core, the busiest actor
    learner_cpu: float  # of a core; nan if nobody asked


def summary(
    actors: list[ActorResult],
    learner: LearnerResult,
    sleeper: list[tuple[float, float]],
    learner_cpu: float = math.nan,
) -> Summary:
    """Return the figures of a load."""
    made = sum(actor.made for actor in actors)
    acknowledged = np.concatenate([actor.acknowledged_s for actor in actors])
    late = np.concatenate([actor.late_s for actor in actors])
    slept = np.array([late_s for _, late_s in sleeper])
    expected = {actor.session: actor.made - 1 for actor in actors if actor.made}
    wrong = abs(made - learner.position) + sum(learner.last_sequences.get(s, -1) != n for s, n in expected.items())
    return Summary(
        made=made,
        logged=learner.position,
        lost_or_doubled=wrong,
        left=sum(actor.left for actor in actors),
        ack_ms_p50=round(1e3 * float(np.percentile(acknowledged, 50)), 2),
        ack_ms_p99=round(1e3 * float(np.percentile(acknowledged, 99)), 2),
        late_ms_p99=round(1e3 * float(np.percentile(late, 99)), 2),
        late_ms_max=round(1e3 * float(late.max()), 2),
        sleeper_late_ms_p99=round(1e3 * float(np.percentile(slept, 99)), 2),
        wire_kib=round(sum(actor.sent * actor.record_bytes for actor in actors) / made / 1024, 1),
        actor_cpu=round(max(actor.cpu_s / actor.run_s for actor in actors), 4),
        learner_cpu=round(learner_cpu, 4),
    )


def run(load: Load, seconds: float, folder: Path, sleep: Callable[[float], None] = time.sleep) -> Summary:
    """Keep a load up for some seconds; return the figures."""
    with rig(folder, load) as it:
        it.start_actors()
        before_s, begun_s = it.learner_cpu_s(), time.monotonic()
        sleep(seconds)
        share = (it.learner_cpu_s() - before_s) / (time.monotonic() - begun_s)
        return summary(it.end_actors(), it.end_learner(), it.end_sleeper(), share)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--actors", type=int, default=8)
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--frame-bytes", type=int, default=8_000, help="34000: PNG of a noisy picture")
    parser.add_argument("--real-time-priority", action="store_true")
    args = parser.parse_args()
    load = Load(
        actors=args.actors,
        hz=args.hz,
        frame_bytes=args.frame_bytes,
        goes_before_others=args.real_time_priority,
    )
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(load, args.seconds, Path(folder))._asdict()))


if __name__ == "__main__":
    main()
