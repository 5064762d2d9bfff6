"""Runs the benchmarks, one after the other: `make bench`. Each also runs alone, and says what it measures.

`real_time_loop.py`, `demo_seeds.py`, `console_human.py`, `console_reaction.py`, `load.py` and `soak.py` are left out:
they take long, and want the machine for themselves.
"""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "sim_speed.py",
    "camera_speed.py",
    "robot_step.py",
    "transport.py",
    "learner.py",
    "pixels.py",
    "console.py",
    "console_history.py",
)


def main() -> int:
    """Run all of them; return 1 if one failed."""
    folder = Path(__file__).parent
    failed = []
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(folder / name)], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
