"""Row X5: a crowd at the doors: the limits hold, a stop gets through at once, and memory does not grow."""

import http.client
import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from robot_servers.auth import MAX_SESSIONS
from robot_servers.limited_http import MAX_CONNECTIONS
from robot_servers.stop_socket import MAX_VISITORS
from robot_servers.web import BACKLOG
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode
from tests.faults.fault_rows import row
from tests.faults.robot_rig import child, server_process

STOP_S = 0.020  # p99, on a machine that is quiet but for the server and the crowd
MAX_GROWTH_BYTES = 64 * 1024 * 1024
PERIOD_S = 0.02  # between stops

ECHO = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\nconnection: close\\r\\n\\r\\n")
"""


def ask_s(port: int, token: str) -> float:
    """Send a stop, and return how long the answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
    begin_s = time.perf_counter()
    connection.request("POST", "/v1/stop", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    response.read()
    took_s = time.perf_counter() - begin_s
    connection.close()
    assert response.status == 200
    return took_s


def crowded(tmp_path: Path, connections: int, share: float, stops: int, quantile: float) -> dict[str, float | str]:
    """Crowd a real server, ask for a stop again and again meanwhile; return what was seen."""
    with server_process(tmp_path) as (server, url, token_file):
        token = token_file.read_text().strip()
        robot = HttpRobot(url, owner="test", token_file=token_file)
        stop_port = robot.health().stop_port
        assert stop_port is not None
        process = psutil.Process(server.pid)
        for _ in range(20):
            ask_s(stop_port, token)
        before_bytes = process.memory_info().rss
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        crowd_command = (
            "-m",
            "tests.faults.saturate",
            url,
            str(stop_port),
            str(token_file),
            str(connections),
            str(share),
        )
        with child("-c", ECHO, stdout=subprocess.PIPE) as echo, child(*crowd_command, **pipes) as crowd:
            echo_port = int(echo.stdout.readline())
            is_crowded = threading.Event()
            threading.Thread(target=lambda: crowd.stdout.readline() and is_crowded.set(), daemon=True).start()
            took_s: list[float] = []
            echo_s: list[float] = []
            peak_bytes, peak_files = 0, 0
            while not is_crowded.is_set() or len(took_s) < stops:
                assert crowd.poll() is None
                took_s.append(ask_s(stop_port, token))
                echo_s.append(ask_s(echo_port, token))
                peak_bytes = max(peak_bytes, process.memory_info().rss)
                peak_files = max(peak_files, process.num_fds())
                time.sleep(PERIOD_S)
            crowd.stdin.close()
            counts = json.loads(crowd.stdout.readline())
        state = robot.state()  # it serves again as before
        assert state.mode in (Mode.STOPPED, Mode.FAULT)  # a machine with too much to do may have starved the arm's loop
        robot.close()
    return {
        "stops": len(took_s),
        "quantile": quantile,
        "stop_s": float(np.quantile(took_s, quantile)),
        "max_s": max(took_s),
        "echo_s": float(np.quantile(echo_s, quantile)),
        "growth_bytes": peak_bytes - before_bytes,
        "files": peak_files,
        "mode": f"{state.mode.value} by {state.fault}",
        "counts": ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
    }


def judged(seen: dict[str, float | str]) -> str:
    """Hold it against the contract; return it in words."""
    growth_mb = float(seen["growth_bytes"]) / 2**20
    stop_ms, echo_ms = 1e3 * float(seen["stop_s"]), 1e3 * float(seen["echo_s"])
    words = (
        f"{seen['stops']} stops answered, p{100 * float(seen['quantile']):.0f} {stop_ms:.1f} ms (an idle echo process "
        f"meanwhile: {echo_ms:.1f} ms), grew by {growth_mb:.1f} MB, {seen['files']} descriptors at most, "
        f"{seen['mode']}; the crowd: {seen['counts']}"
    )
    assert growth_mb < MAX_GROWTH_BYTES / 2**20, words
    # Both ports' connections, the streams, those that are accepted in one turn before some must go, and its own.
    assert float(seen["files"]) < MAX_CONNECTIONS + MAX_VISITORS + MAX_SESSIONS + BACKLOG + 120, words
    # What the machine itself takes at that moment, another process sees as well.
    assert float(seen["stop_s"]) < STOP_S + float(seen["echo_s"]), words
    return words


@row("X5")
def test_a_small_crowd_keeps_no_stop_out_and_costs_no_memory(observed, tmp_path):
    """The quick form: the median, because the slowest of fifty is the machine's matter."""
    observed(judged(crowded(tmp_path, connections=100, share=0.2, stops=50, quantile=0.5)))


@row("X5")
@pytest.mark.long
@pytest.mark.timeout(900)  # ten thousand take a while on a machine that has other work
def test_ten_thousand_connections_keep_no_stop_out_and_cost_no_memory(observed, tmp_path):
    observed(judged(crowded(tmp_path, connections=10_000, share=1.0, stops=500, quantile=0.99)))


def test_the_time_of_an_answer_is_measured():
    """A server that takes its time is seen, or the rows above would prove nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                time.sleep(0.05)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask_s(listener.getsockname()[1], "x") >= 0.05
        thread.join()
