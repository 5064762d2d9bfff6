"""What the simulated arm costs in CPU time: a 100 ms step in free air and in contact, a reset, a reading.

Run as `python benchmarks/sim_speed.py`. Prints one JSON line. Training takes 12,000 such steps.
"""

import json
import time
from collections.abc import Callable

import numpy as np

from robot_servers.backend import Reference
from robot_servers.sim.backend import MujocoBackend
from serl_core.robots.messages import Vector3

DOWN = (1.0, 0.0, 0.0, 0.0)
STEP_S = 0.1
REPEATS = 30


def cpu_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median CPU time of `work` in milliseconds: other processes do not count."""
    times = []
    for _ in range(repeats):
        start_s = time.process_time()
        work()
        times.append(time.process_time() - start_s)
    return 1e3 * float(np.median(times))


def step_ms(start_m: Vector3, target_m: Vector3) -> float:
    """Return the time of one step of 100 ticks while the arm is drawn from `start_m` to `target_m` and stays."""
    backend = MujocoBackend("ram_insertion", is_lockstep=True)
    backend.reset(0, (*start_m, *DOWN))
    reference = Reference(np.array(target_m), np.array(DOWN))
    backend.start(lambda now_s, measured: reference)
    backend.advance(1.0)
    return cpu_ms(lambda: backend.advance(STEP_S))


def main() -> None:
    """Measure and print."""
    backend = MujocoBackend("ram_insertion", is_lockstep=True)
    print(
        json.dumps(
            {
                "free_step_ms": step_ms((0.5, 0.0, 0.12), (0.5, 0.0, 0.12)),
                "rim_step_ms": step_ms((0.5, 0.005, 0.09), (0.5, 0.005, 0.06)),
                "table_step_ms": step_ms((0.4, 0.15, 0.05), (0.4, 0.15, 0.0)),
                "seated_step_ms": step_ms((0.5, 0.0, 0.062), (0.5, 0.0, 0.05)),
                "reset_ms": cpu_ms(lambda: backend.reset(0, (0.53, 0.03, 0.12, *DOWN))),
                "state_ms": cpu_ms(backend.state, repeats=1000),
            }
        )
    )


if __name__ == "__main__":
    main()
