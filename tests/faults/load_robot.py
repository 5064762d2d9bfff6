"""The programs of rows G5 and G6, each role a process: `python -m tests.faults.load_robot ROLE ...`.

Roles: `serve FOLDER`, `control URL TOKEN_FILE SECONDS`, `observe URL TOKEN_FILE SECONDS`. A server in a process of its
own is as fast as a real one: under pytest each call has its types checked, 1,000 times a second in the control loop.
A controller prints its round trips in ms when it is done; observers print how many states they have read.
"""

import http.client
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from robot_servers.main import GIL_INTERVAL_S
from serl_core.clock import Rate
from serl_core.robots.http_client import HttpRobot
from serl_core.scheduling import spare_what_stays
from tests.faults.robot_rig import served_arm

CONTROL_HZ, OBSERVE_HZ, OBSERVERS = 100.0, 30.0, 10


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(folder: str) -> None:
    """Serve the arm; tell its URL, and after a line of input what came of the control ticks since the line before."""
    sys.setswitchinterval(GIL_INTERVAL_S)  # as the robot server itself does
    with served_arm(Path(folder)) as (backend, _service, url):
        tell(url)
        first, overruns = 0, 0
        for _ in sys.stdin:
            last, late = len(backend.log), backend._arm.overruns
            times_s = [tick.now_s for tick in list(backend.log)[first:last]]
            longest_s = float(np.diff(times_s).max()) if first else 0.0
            tell(json.dumps({"ticks": last - first, "longest_s": longest_s, "overruns": late - overruns}))
            first, overruns = last, backend._arm.overruns


def control(url: str, token_file: str, seconds: float) -> None:
    """Send a target at 100 Hz; the arm stays about where it is."""
    robot = HttpRobot(url, owner="controller", token_file=Path(token_file))
    robot.connect()
    pose = robot.state().tcp_pose
    rate, times, refused = Rate(CONTROL_HZ), [], 0
    spare_what_stays()  # as an actor does
    end_s = time.monotonic() + seconds
    tell("ready")
    while time.monotonic() < end_s:
        rate.wait()
        target = (*pose[:2], pose[2] + 0.002 * np.sin(2 * np.pi * time.monotonic()).item(), *pose[3:])
        begun_s = time.perf_counter()
        try:
            robot.step(target, 0.0)
        except Exception as error:  # counted, whatever it is: the row wants none
            sys.stderr.write(f"refused: {error}\n")
            refused += 1
        times.append(1e3 * (time.perf_counter() - begun_s))
    tell(json.dumps({"ms": times, "refused": refused}))


def observe(url: str, token_file: str, seconds: float) -> None:
    """Read the state with ten threads at 30 Hz each, after the controller and its server, which share this machine."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setparam(0, os.sched_param(1))
    headers = {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"}
    counts = [0] * OBSERVERS
    end_s = time.monotonic() + seconds

    def watch(number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        rate = Rate(OBSERVE_HZ)
        while time.monotonic() < end_s:
            rate.wait()
            connection.request("GET", "/v1/state", headers=headers)
            reply = connection.getresponse()
            reply.read()
            counts[number] += reply.status == 200
        connection.close()

    threads = [threading.Thread(target=watch, args=(i,)) for i in range(OBSERVERS)]
    tell("ready")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(json.dumps({"reads": sum(counts)}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    role, *given = sys.argv[1:]
    if role == "serve":
        serve(*given)
    else:
        {"control": control, "observe": observe}[role](*given[:2], float(given[2]))
