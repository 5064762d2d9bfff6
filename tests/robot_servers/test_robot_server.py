"""The program: its signals, its port, its files, and what it must not need."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robot_servers.arms import ArmOptions, Backend, ClockKind, make_backend
from robot_servers.limits import SafetyLimits
from robot_servers.main import RobotServerArgs, run_robot_server
from serl_core.errors import ConfigError, RobotFault, SerlError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode
from serl_core.serving import bind

SERVER = """
import sys
from pathlib import Path
import tyro
from robot_servers.main import RobotServerArgs, run_robot_server
run_robot_server(tyro.cli(RobotServerArgs))
"""

IMPORT_ALL = """
import sys
sys.modules.update({name: None for name in ("jax", "flax", "optax", "gymnasium")})
import importlib, pkgutil, robot_servers
for module in pkgutil.walk_packages(robot_servers.__path__, "robot_servers."):
    importlib.import_module(module.name)
"""


@pytest.fixture
def server(tmp_path):
    """A simulated arm in a process of its own: (process, URL, token file)."""
    ready, token = tmp_path / "url", tmp_path / "robot.token"
    options = ["--port", "0", "--clock", "lockstep", "--ready-file", str(ready), "--token-file", str(token)]
    options += ["--audit-log", str(tmp_path / "audit.jsonl")]
    process = subprocess.Popen([sys.executable, "-c", SERVER, *options], stderr=subprocess.PIPE, text=True)
    try:
        while not ready.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        yield process, ready.read_text().strip(), token
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_program_serves_a_simulated_arm_and_obeys_signals(server, tmp_path):
    process, url, token = server
    assert token.stat().st_mode & 0o777 == 0o600
    robot = HttpRobot(url, owner="test", token_file=token)
    robot.connect()
    start = robot.state().tcp_pose
    for _ in range(3):
        state = robot.step((start[0], start[1] + 0.02, *start[2:]), 0.1)
    assert state.tcp_pose[1] > start[1] + 0.01

    process.send_signal(signal.SIGUSR1)
    while robot.state().mode is not Mode.STOPPED:
        time.sleep(0.01)
    with pytest.raises(RobotFault, match="local_stop"):
        robot.step(start, 0.1)
    robot.close()

    process.send_signal(signal.SIGTERM)
    assert process.wait(10.0) == 0
    events = (tmp_path / "audit.jsonl").read_text()
    assert '"event":"stop","detail":"local_stop"' in events
    assert token.read_text().strip() not in events


def test_an_interrupt_ends_it_with_status_0(server):
    process, _, _ = server
    process.send_signal(signal.SIGINT)
    assert process.wait(10.0) == 0


def test_a_busy_port_is_named(tmp_path):
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SerlError, match=f"port {port} on 127.0.0.1 cannot be used"):
            run_robot_server(RobotServerArgs(port=port, token_file=tmp_path / "token"))


def test_an_address_that_others_can_reach_must_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="--insecure-lan"):
        run_robot_server(RobotServerArgs(host="0.0.0.0", token_file=tmp_path / "token"))


def test_an_unknown_scene_is_named(tmp_path):
    with pytest.raises(SerlError, match="'nowhere'"):
        run_robot_server(RobotServerArgs(scene="nowhere", port=0, token_file=tmp_path / "token"))


def test_a_missing_limits_file_is_named(tmp_path):
    path = tmp_path / "none.json"
    with pytest.raises(ConfigError, match=str(path)):
        run_robot_server(RobotServerArgs(limits_file=path, token_file=tmp_path / "token"))


def test_the_robot_server_needs_neither_jax_nor_gymnasium():
    subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True, timeout=120)


def test_nothing_here_listens_beyond_this_machine_by_default():
    assert RobotServerArgs().host == "127.0.0.1"
    assert not Path("robot.token").exists()


def test_the_backend_that_was_asked_for_is_the_one_that_is_served():
    """The option was read by nobody: whatever it said, the simulator was started."""
    assert make_backend(ArmOptions(backend=Backend.SIM, clock=ClockKind.LOCKSTEP), SafetyLimits()).name == "sim"
    with pytest.raises(AssertionError, match="unreachable"):
        make_backend(ArmOptions(backend="another"), SafetyLimits())
