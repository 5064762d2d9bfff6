"""The console that a training starts: it serves, it ends with the training, and it never ends it."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console
from websockets.sync.client import connect

from serl_core.cli.onlooker import console_beside


def terminal():
    return Console(file=io.StringIO(), width=40)  # narrow: a link that is broken into lines cannot be opened


def state_of(url, token):
    with connect(f"{url.replace('http', 'ws')}/ws", compression=None, proxy=None, close_timeout=1) as page:
        page.send(json.dumps({"kind": "hello", "token": token}))
        while True:
            message = json.loads(page.recv(timeout=30.0))
            if message["kind"] == "state":
                return message


def child():
    """The process that was started last."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_training_in_one_process_has_a_console_without_a_robot_server(tmp_path):
    out = terminal()
    with console_beside(tmp_path, "ram_insertion", None, out):
        line = out.file.getvalue()
        url, token = line.removeprefix("console: ").strip().split("/#token=")
        state = state_of(url, token)
        pid = child()
        assert is_alive(pid)
    assert "in the training's own process" in state["missing"]["robot"]
    assert line.count("\n") == 1
    assert not is_alive(pid)
    assert token not in (tmp_path / "logs" / "console.log").read_text()


def test_a_console_that_does_not_start_is_told_and_the_training_goes_on(tmp_path):
    out = terminal()
    with console_beside(tmp_path, "no_such_task", None, out):
        pass
    assert "no console: the console stopped with status 2" in out.file.getvalue()
    assert "no such task" in out.file.getvalue()


def test_a_console_that_fails_later_ends_nothing(tmp_path):
    with console_beside(tmp_path, "ram_insertion", None, terminal()):
        pid = child()
        os.kill(pid, 9)


def test_what_fails_inside_is_raised_and_the_console_ends(tmp_path):
    pids = []

    def train():
        with console_beside(tmp_path, "ram_insertion", None, terminal()):
            pids.append(child())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert not is_alive(pids[0])
