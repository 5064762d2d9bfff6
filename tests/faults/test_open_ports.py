"""Rows X1 and X8: what other machines can reach, and where a token can be read; on real programs."""

import errno
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from serl_core.robots.http_client import HttpRobot
from tests.faults.fault_rows import row
from tests.faults.robot_rig import SERVER, child, until

PORTS = range(1, 65536)
AT_ONCE = 512
OUTSIDE, INSIDE = "10.231.77.1", "10.231.77.2"

OPERATOR_LINK = """
import sys, time
from pathlib import Path
from actors.operator_link import OperatorLink
with OperatorLink(Path(sys.argv[1]), lambda *_: []):
    time.sleep(3600)
"""


def scan(address: str) -> list[int]:
    """Return every TCP port of `address` that takes a connection."""
    found: list[int] = []
    waiting = list(PORTS)
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < AT_ONCE:
                port = waiting.pop()
                connection = socket.socket()
                connection.setblocking(False)
                status = connection.connect_ex((address, port))
                if status == errno.EINPROGRESS:
                    selector.register(connection, selectors.EVENT_WRITE, port)
                else:
                    found += [port] if status == 0 else []
                    connection.close()
            for key, _ in selector.select(5.0):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(key.data)
                selector.unregister(connection)
                connection.close()
    return sorted(found)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def another_machine() -> Iterator[str]:
    """A network namespace with a cable to this one, as of a second machine; yield its name."""
    name = f"serl{secrets.token_hex(3)}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", f"{name}a")
        run("ip", "link", "set", f"{name}a", "up")
        for command in (f"addr add {INSIDE}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", name, *command.split())
        yield name
    finally:
        with suppress(subprocess.CalledProcessError):
            run("ip", "link", "del", f"{name}a")
        run("ip", "netns", "del", name)


def listening(name: str) -> set[tuple[str, int]]:
    """Return where the programs of a namespace listen: (IPv4 address, port)."""
    text = subprocess.run(
        ["ip", "netns", "exec", name, "cat", "/proc/net/tcp"], capture_output=True, text=True, check=True
    )
    found = set()
    for line in text.stdout.splitlines()[1:]:
        place, state = line.split()[1], line.split()[3]
        if state == "0A":
            address, port = place.split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


@row("X1")
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2")
def test_no_port_of_any_program_can_be_reached_from_another_machine(observed, tmp_path):
    with ExitStack() as stack:
        name = stack.enter_context(another_machine())

        def start(*arguments: str) -> None:
            command = f"import os; os.execvp('ip', {['ip', 'netns', 'exec', name, sys.executable, *arguments]!r})"
            with (tmp_path / "log").open("ab") as log:
                stack.enter_context(child("-c", command, stderr=log, stdout=log))

        run_folder, token = tmp_path / "run", tmp_path / "robot.token"
        run_folder.mkdir()
        start("-c", SERVER, "robot-server", "--token-file", str(token))
        start("-c", SERVER, "console", "--run", str(run_folder), "--token-file", str(token), "--task", "ram_insertion")
        start("-c", SERVER, "learner", "--task", "ram_insertion", "--run", str(run_folder))
        start("-c", OPERATOR_LINK, str(run_folder / "actor-0.operator"))
        until(lambda: len(listening(name)) >= 5, "five listening sockets: " + (tmp_path / "log").read_text())
        sockets = listening(name)
        assert {5000, 5001, 8765, 5588} <= {port for _, port in sockets}
        assert scan(INSIDE) == []
        assert {address for address, _ in sockets} == {"127.0.0.1"}
        # The scan finds what is there: the same with one door open.
        start("-m", "http.server", "7777", "--bind", "0.0.0.0", "--directory", str(run_folder))
        until(lambda: ("0.0.0.0", 7777) in listening(name), "the open door")
        assert scan(INSIDE) == [7777]
    observed(
        f"robot server, its stop, console, learner, operator link ({len(sockets)} sockets, all on 127.0.0.1): 0 of "
        "65,535 ports open from another namespace; an open door beside them is found"
    )


# ---- X8


def everything_written(folder: Path, secrets_of: set[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path not in secrets_of:
            yield path, path.read_bytes()


@row("X8")
def test_no_token_is_in_an_argument_a_log_an_address_or_a_core_file(observed, tmp_path):
    work = tmp_path / "work"
    run_folder, token_file = work / "run", work / "robot.token"
    run_folder.mkdir(parents=True)
    robot_ready, console_ready, log = work / "robot.url", work / "console.url", work / "log"
    processes, answers = [], []
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))

        def start(*arguments: str, is_awaited: bool = False) -> None:
            environment = {**os.environ, "SERL_LOG": "DEBUG", "SERL_TOKEN_FILE": str(token_file)}
            process = stack.enter_context(
                child("-c", SERVER, *arguments, cwd=work, stdout=output, stderr=output, env=environment)
            )
            processes.append(process)
            if is_awaited:
                assert process.wait(120.0) == 0, log.read_text()

        audit = ("--audit-log", str(work / "audit.jsonl"))
        start("robot-server", "--port", "0", "--ready-file", str(robot_ready), *audit)
        until(robot_ready.exists, "the robot server")
        url = robot_ready.read_text().strip()
        start("console", "--run", str(run_folder), "--robot", url, "--port", "0", "--ready-file", str(console_ready))
        until(console_ready.exists, "the console")
        start("robot", "stop", "--robot", url, is_awaited=True)
        arguments, core_limits = b"", set()
        for process in processes[:2]:
            arguments += (
                Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
            )
        for line in Path(f"/proc/{processes[0].pid}/limits").read_text().splitlines():
            if line.startswith("Max core file size"):
                core_limits.add(tuple(line.split()[4:6]))
        robot = HttpRobot(url, owner="test", token_file=token_file)
        robot.connect()
        answers.append(robot.health())
        robot.close()
        for path in ("/openapi.json", "/v1/health", "/v1/state"):
            answers.append(_plain(url + path))
        processes[0].send_signal(6)  # SIGABRT: it would leave a core file here
        until(lambda: processes[0].poll() is not None, "the end of the robot server")
    tokens = {path: path.read_text().strip() for path in work.rglob("*.token")}
    assert len(tokens) == 4  # three roles and the console's
    places = list(everything_written(work, set(tokens)))
    assert {"log", "audit.jsonl", "robot.url", "console.url"} <= {path.name for path, _ in places}
    for token in tokens.values():
        for part in (token, token[:16], token[-16:]):
            assert part.encode() not in arguments
            assert part not in repr(answers)
            assert [path for path, content in places if part.encode() in content] == []
    assert core_limits == {("0", "0")}
    assert [path for path, _ in places if "core" in path.name] == []
    observed(
        f"4 tokens sought in arguments, environments, {len(places)} files (logs at DEBUG, audit log, ready files, run "
        "folder) and answers: found nowhere; core files are switched off"
    )


def _plain(url: str) -> str:
    return httpx.get(url, timeout=60.0).text


@row("X1")
@pytest.mark.long
def test_the_scan_finds_what_listens_on_this_machine():
    with socket.create_server(("127.0.0.99", 0)) as listener:
        port = listener.getsockname()[1]
        assert port in scan("127.0.0.99")
