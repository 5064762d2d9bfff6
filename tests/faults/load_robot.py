"""The clients of rows G5 and G6, each role a process: `python load_robot.py ROLE URL TOKEN_FILE SECONDS`.

A controller prints its round trips in ms when it is done; observers print how many states they have read.
"""

import http.client
import json
import logging
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from serl_core.clock import Rate
from serl_core.robots.http_client import HttpRobot

CONTROL_HZ, OBSERVE_HZ, OBSERVERS = 100.0, 30.0, 10


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def control(url: str, token_file: str, seconds: float) -> None:
    """Send a target at 100 Hz; the arm stays about where it is."""
    robot = HttpRobot(url, owner="controller", token_file=Path(token_file))
    robot.connect()
    pose = robot.state().tcp_pose
    rate, times, refused = Rate(CONTROL_HZ), [], 0
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
    """Read the state with ten threads at 30 Hz each."""
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
    {"control": control, "observe": observe}[sys.argv[1]](sys.argv[2], sys.argv[3], float(sys.argv[4]))
