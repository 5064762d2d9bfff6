"""Tells for what share of the time each core was not there: `python -m tests.faults.core_watch`, until its input ends.

On each core a thread that goes before everything else only sleeps. What makes it late is not what runs here.
"""

import json
import os
import sys
import threading
import time

PRIORITY = 50  # of SCHED_FIFO: above all that a row runs
PERIOD_S = 0.005
PUNCTUAL_S = 0.001  # such a thread is late by a fraction of this where the machine is there


def main() -> None:
    """Sleep on each core until the input ends, then print for what share of the time each was not there."""
    cores = sorted(os.sched_getaffinity(0))
    shares = dict.fromkeys(cores, 0.0)
    is_ended = False

    def sleep(core: int) -> None:
        os.sched_setaffinity(0, {core})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        except PermissionError:
            return  # what it would be late by could be anybody's doing
        begun_s = due_s = time.monotonic()
        away_s = 0.0
        while not is_ended:
            due_s += PERIOD_S
            time.sleep(max(due_s - time.monotonic(), 0.0))
            late_s = time.monotonic() - due_s
            if late_s > PUNCTUAL_S:
                away_s += late_s
                due_s += late_s
        shares[core] = away_s / (time.monotonic() - begun_s)

    sleepers = [threading.Thread(target=sleep, args=(core,)) for core in cores]
    for sleeper in sleepers:
        sleeper.start()
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    sys.stdin.read()
    is_ended = True
    for sleeper in sleepers:
        sleeper.join()
    sys.stdout.write(json.dumps(list(shares.values())) + "\n")


if __name__ == "__main__":
    main()
