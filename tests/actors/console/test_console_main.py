"""The program: its options, its files, its link, its end."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from actors.console.link import link
from actors.console.main import ConsoleArgs, run_console
from serl_core.errors import ConfigError, SerlError
from tests.actors.console.rig import NO_ROBOT, PATIENCE_S

CONSOLE = [sys.executable, "-P", "-m", "serl_core.cli.main", "console"]


@pytest.fixture
def started():
    """Start consoles; end them afterwards."""
    processes = []

    def start(*options):
        process = subprocess.Popen(
            [*CONSOLE, "--port", "0", *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_program_prints_its_link_once_serves_and_obeys_a_signal(tmp_path, started):
    run = tmp_path / "run"
    process = started("--run", run, "--robot", NO_ROBOT, "--token-file", tmp_path / "none.token")
    line = process.stdout.readline()
    token = (run / "console.token").read_text().strip()
    assert (run / "console.token").stat().st_mode & 0o777 == 0o600
    url = line.removeprefix("console: ").strip()
    assert url == link(url.split("/#")[0], token)
    host = url.split("/#")[0]
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = httpx.get(f"{host}/runs", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline_s
    assert answer.json()["current"] == "run"
    process.send_signal(signal.SIGTERM)
    said, logged = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert token not in said + logged
    assert "none.token cannot be read" in logged  # and goes on: the robot server may make it in a moment


def test_for_another_program_the_address_goes_into_a_file_and_the_token_nowhere(tmp_path, started):
    ready = tmp_path / "url"
    process = started("--run", tmp_path / "run", "--robot", NO_ROBOT, "--ready-file", ready)
    deadline_s = time.monotonic() + PATIENCE_S
    while not ready.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    token = (tmp_path / "run" / "console.token").read_text().strip()
    assert ready.read_text().startswith("http://127.0.0.1:")
    assert token not in ready.read_text()
    process.terminate()
    said, logged = process.communicate(timeout=PATIENCE_S)
    assert token not in said + logged


def test_the_console_needs_neither_jax_nor_mujoco_nor_opencv():
    blocked = "import sys; sys.modules.update({name: None for name in ('jax', 'flax', 'gymnasium', 'mujoco', 'cv2')})"
    code = (
        f"{blocked}; import actors.console.main; from serl_core.envs.task import load_task; load_task('ram_insertion')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_another_machine_is_let_in_on_request_only(tmp_path):
    with pytest.raises(ConfigError, match="or allow it with --insecure-lan"):
        run_console(ConsoleArgs(run=tmp_path, host="0.0.0.0"))
    assert not (tmp_path / "console.token").exists()


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SerlError, match=f"port {port} on 127.0.0.1 cannot be used: .* choose another with --port"):
            run_console(ConsoleArgs(run=tmp_path, port=port))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"robot": "tcp://127.0.0.1:5588"}, "--robot: must be like http"),
        ({"task": "no_such_task"}, "no such task in examples"),
        ({"other_runs": ("a/x", "b/x")}, "two runs are called 'x'"),
        ({"limits_file": "none.json"}, "limits file none.json cannot be read"),
        ({"camera_mountings": "none.json"}, "camera mountings none.json cannot be read"),
    ],
)
def test_wrong_options_are_one_sentence_before_anything_is_written(tmp_path, options, reason):
    paths = {"other_runs": lambda names: tuple(map(Path, names)), "limits_file": Path, "camera_mountings": Path}
    options = {name: paths.get(name, str)(value) for name, value in options.items()}
    with pytest.raises(ConfigError, match=reason):
        run_console(ConsoleArgs(run=tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_task_file_of_another_version_says_what_to_do(tmp_path):
    (tmp_path / "task.json").write_text('{"name": "x"}')
    with pytest.raises(ConfigError, match="name the task with --task"):
        run_console(ConsoleArgs(run=tmp_path))
