import os
import subprocess
import sys
import time

import pytest

from serl_core.clock import ManualClock
from serl_core.testing.faults.clocks import JumpingClock, SteppedWallClock

TELL = """
import sys, time
for _ in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""


def test_the_wall_clock_of_a_running_process_steps_and_its_monotonic_clock_does_not(tmp_path):
    clock = SteppedWallClock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", TELL],
        env={**os.environ, **clock.environment()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask():
            asked_s = time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            wall_s, monotonic_s = map(float, process.stdout.readline().split())
            assert asked_s <= monotonic_s <= time.monotonic()
            return wall_s - monotonic_s - (time.time() - time.monotonic())

        for offset_s in (0.0, 3600.0, -3600.0, 1.0):
            clock.step(offset_s)
            assert ask() == pytest.approx(offset_s, abs=0.5)
        process.stdin.close()


def test_a_jumping_clock_runs_on_after_its_jump():
    base = ManualClock(5.0)
    clock = JumpingClock(base)
    clock.jump(60.0)
    base.advance(1.0)
    assert clock() == 66.0
    with pytest.raises(ValueError, match="does not go back"):
        clock.jump(-1.0)
