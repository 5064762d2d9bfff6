"""The program over HTTP, with an arm of franky-sim behind it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from serl_core.robots.http_client import HttpRobot
from serl_core.testing.conformance import check_robot
from tests.robot_servers.franky.simulated import PATIENCE_S, until

STEP_S = 0.001
WINDOW = 10  # steps over which a speed is taken
REST_M_S = 0.02  # of the tool: what is left is the spring's rebound
DRIFT_M = 0.002
WATCHDOG_S = 0.3
STOPPED_S = 0.45  # the watchdog, and the stop itself

CLI = "import sys; from serl_core.cli.main import main; sys.exit(main())"

MOVE = """
import sys
from pathlib import Path
from serl_core.errors import RobotError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.problems import is_late
robot = HttpRobot(sys.argv[1], owner="client", token_file=Path(sys.argv[2]))
robot.connect()
_, y, z, *turn = robot.state().tcp_pose
while True:
    try:
        robot.step((robot.state().tcp_pose[0] - 0.04, y, z, *turn), 0.1)
    except RobotError as refusal:
        if not is_late(refusal) and refusal.status != 503:  # of a machine that is busy
            raise
    else:
        print("moved", flush=True)
"""


def serl(*options, **kwargs):
    return subprocess.Popen([sys.executable, "-c", CLI, "robot-server", "--backend", "franky", *options], **kwargs)


@pytest.fixture
def server(arms, tmp_path):
    """The robot server in a process of its own: (process, URL, token file)."""
    ready, token = tmp_path / "url", tmp_path / "robot.token"
    process = serl(
        *("--robot-ip", arms.address, "--ignore-realtime", "--port", "0"),
        *("--ready-file", str(ready), "--token-file", str(token)),
    )
    try:
        give_up_s = time.monotonic() + PATIENCE_S
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        yield process, ready.read_text().strip(), token
    finally:
        process.kill()
        process.wait()


def rest_after_s(arms, since_s):
    """Return when the tool came to rest after `since_s`, and how far it went later than `STOPPED_S`.

    The watchdog counts real time. What follows is the arm's physics, which is counted in steps: franky-sim may be slow.
    """
    until(lambda: len(arms.ask("log", since_s + WATCHDOG_S)) > 700, "0.7 s of the robot's clock")
    log = arms.ask("log", since_s)
    tool_m, times_s = np.array([entry[1] for entry in log]), np.array([entry[0] for entry in log]) - since_s
    speed_m_s = np.linalg.norm(tool_m[WINDOW:] - tool_m[:-WINDOW], axis=1) / (WINDOW * STEP_S)
    moving = np.nonzero(speed_m_s > REST_M_S)[0]
    last = int(moving.max()) + WINDOW if len(moving) else 0
    held = int(np.searchsorted(times_s, WATCHDOG_S))
    rest_s = float(times_s[last]) if last < held else WATCHDOG_S + (last - held) * STEP_S
    stopped = held + round((STOPPED_S - WATCHDOG_S) / STEP_S)
    return rest_s, float(np.linalg.norm(tool_m[stopped:] - tool_m[stopped], axis=1).max())


@contextmanager
def moving_client(server):
    """A client that moves the arm as fast as its gains let it, under way."""
    _, url, token = server
    client = subprocess.Popen([sys.executable, "-c", MOVE, url, str(token)], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(8):
            assert client.stdout.readline() == "moved\n"
        yield client
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


def test_the_conformance_suite_passes_over_http(server):
    _, url, token = server
    check_robot(HttpRobot(url, owner="test", token_file=token), now=time.monotonic)


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_killed_process_leaves_the_arm_at_rest(server, arms, victim):
    with moving_client(server) as client:
        kill_s = time.monotonic()
        os.kill((client if victim == "client" else server[0]).pid, signal.SIGKILL)
        rest_s, drift_m = rest_after_s(arms, kill_s)
    assert 0.0 < rest_s < STOPPED_S
    assert drift_m < DRIFT_M


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--robot-ip", "127.0.0.1", "--ignore-realtime"), "activate FCI in Desk"),
        ((), "--backend franky needs --robot-ip"),
    ],
)
def test_bad_input_ends_the_program_with_status_2_and_a_remedy(tmp_path, options, complaint):
    process = serl("--port", "0", "--token-file", str(tmp_path / "t"), *options, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert complaint in errors
    assert "Traceback" not in errors


def test_a_second_controller_is_refused_and_the_arm_goes_on(server, arms, tmp_path):
    process = serl(
        *("--robot-ip", arms.address, "--ignore-realtime", "--port", "0", "--token-file", str(tmp_path / "t")),
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "another program may control it: end that one" in errors
    assert arms.ask("moving") > 0


def test_an_arm_of_another_version_is_refused_with_the_remedy(tmp_path):
    """A server that greets like an arm whose protocol this libfranka does not speak."""
    script = (
        "import socket, struct, sys\n"
        "server = socket.create_server((sys.argv[1], 1337))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    connection, _ = server.accept()\n"
        "    head = connection.recv(16)\n"
        "    connection.sendall(struct.pack('<IIIHH4x', 0, struct.unpack('<III', head[:12])[1], 20, 1, 3))\n"
    )
    address = f"127.99.{os.getpid() % 250 + 1}.7"
    old = subprocess.Popen([sys.executable, "-c", script, address], stdout=subprocess.PIPE, text=True)
    try:
        assert old.stdout.readline() == "ready\n"
        process = serl(
            *("--robot-ip", address, "--ignore-realtime", "--port", "0", "--token-file", str(tmp_path / "t")),
            stderr=subprocess.PIPE,
            text=True,
        )
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2
        assert "update the arm's system image" in errors
    finally:
        old.kill()
        old.wait()
        old.stdout.close()


def test_without_the_library_the_extra_is_named(tmp_path):
    block = "import sys; sys.modules['franky'] = None; from serl_core.cli.main import main; sys.exit(main())"
    options = ["--backend", "franky", "--robot-ip", "127.0.0.1", "--port", "0", "--token-file", str(tmp_path / "t")]
    done = subprocess.run(
        [sys.executable, "-c", block, "robot-server", *options], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert "pip install 'serl[server,franka]'" in done.stderr
