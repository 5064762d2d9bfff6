"""Stop, from the space bar to the real robot server, while others keep that server as busy as they can."""

import json
import logging
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from chromium_page import wait_for
from whole import arm_and_console

logger = logging.getLogger(__name__)

MUST_REACH_S = 0.1
STOPS, ROUNDS = 7, 3  # a round may meet other work on the machine than ours
WORKERS = 4
WORKER = """
import http.client, itertools, sys
host, token = sys.argv[1:]
head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
pose = b'{"epoch": 1, "pose": [0.5, 0, 0.12, 1, 0, 0, 0]}'  # of nobody who has the lease: refused
asked = itertools.cycle([("GET", "/v1/state", None), ("POST", "/v1/pose", pose), ("GET", "/v1/health", None)])
connection = http.client.HTTPConnection(host, timeout=20)
for method, path, body in asked:
    connection.request(method, path, body, head)
    connection.getresponse().read()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with arm_and_console(tmp_path_factory.mktemp("stop")) as (system, _):
        yield system


@contextmanager
def busy(whole):
    """Other clients ask the robot server without a pause."""
    host, token = whole.address.removeprefix("http://"), whole.token_file.read_text().strip()
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, host, token]) for _ in range(WORKERS)]
    try:
        time.sleep(1.0)
        yield
        assert all(worker.poll() is None for worker in workers), "a worker gave up: the server was not busy"
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def stops(whole):
    """When the robot server latched each stop, by the machine's monotonic clock."""
    if not whole.audit_log.exists():
        return []
    lines = [json.loads(line) for line in whole.audit_log.read_text().splitlines()]
    return [line["monotonic_s"] for line in lines if line["event"] == "stop"]


def delay_s(page, whole):
    """Stop by the space bar; return how long that took until the server had latched it. The arm is freed again."""
    before = len(stops(whole))
    pressed_s = time.monotonic()
    page.press("Space", " ")
    wait_for(lambda: len(stops(whole)) > before, "the stop")
    took_s = stops(whole)[before] - pressed_s
    page.wait("#banner", "Stopped by")
    page.click("#way-out")
    wait_for(lambda: page.text("#fact-mode") not in ("stopped", "none"), "the arm freed")
    return took_s


def test_a_stop_reaches_the_busy_robot_server_within_100_ms(page, whole):
    page.open(whole.link)
    wait_for(lambda: page.text("#fact-mode") not in ("", "none"), "the robot's state")
    medians = []
    with busy(whole):
        while not medians or min(medians) > MUST_REACH_S:
            assert len(medians) < ROUNDS, medians
            took_s = [delay_s(page, whole) for _ in range(STOPS)]
            logger.info("stopped after %s ms", [round(1e3 * delay, 1) for delay in took_s])
            medians.append(statistics.median(took_s))
    assert whole.robot.state().mode.value != "stopped"
