import os
import socket
from pathlib import Path

import pytest

from serl_core.cli.main import COMMANDS, main

INVERTED = """
from serl_core.config import ResetConfig, SafetyBox, TaskConfig
from serl_core.envs.task import Task

DOWN = (1.0, 0.0, 0.0, 0.0)
TASK = Task(config=TaskConfig(
    name="inverted", box=SafetyBox(low_m=(0.4, 0.1, 0.0), high_m=(0.6, -0.1, 0.2)),
    target_pose=(0.5, 0.0, 0.1, *DOWN), reset=ResetConfig(pose=(0.5, 0.0, 0.1, *DOWN)),
))
"""


@pytest.fixture(autouse=True)
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each command lowers its priority by; that of the tests stays."""
    given: list[int] = []
    monkeypatch.setattr(os, "nice", given.append)
    return given


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_an_unknown_command_names_those_there_are(capsys: pytest.CaptureFixture[str]):
    assert main(["trian"]) == 2
    assert "train" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--run", "{tmp}/run"], ["--sync"]),
        (["train", "--sync", "--task", "no_such_task", "--run", "{tmp}/run"], ["no_such_task", "examples/"]),
        (["demo", "--task", "{tmp}/inverted.py", "--run", "{tmp}/run"], ["SafetyBox.y", "0.1", "-0.1"]),
        (["demo", "--run", "{tmp}/full"], ["{tmp}/full", "not empty"]),
        (["demo", "--run", "{tmp}/full/kept"], ["{tmp}/full/kept"]),
        (["report", "{tmp}/nothing"], ["{tmp}/nothing", "no such file"]),
        (["doctor", "--run", "{tmp}/nothing"], ["{tmp}/nothing", "no such folder"]),
        (
            ["learner", "--task", "ram_insertion", "--run", "{tmp}/run", "--demos", "{tmp}/none", "--port", "0"],
            ["{tmp}/none"],
        ),
        (["eval", "--task", "ram_insertion", "--policy", "{tmp}/none.st", "--out", "{tmp}/e"], ["{tmp}/none.st"]),
        (
            ["record", "--task", "ram_insertion", "--out", "{tmp}/d", "--robot", "http://127.0.0.1:9"],
            ["http://127.0.0.1:9", "serl robot-server"],
        ),
        (
            ["actor", "--task", "ram_insertion", "--run", "{tmp}/a", "--learner", "tcp://127.0.0.1:9"]
            + ["--learner-timeout-s", "0.3"],
            ["tcp://127.0.0.1:9", "serl learner"],
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "inverted.py").write_text(INVERTED)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("precious")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    sentence = one_sentence(capsys)
    assert [word for word in words if word.format(tmp=tmp_path) not in sentence] == []
    assert (tmp_path / "full" / "kept").read_text() == "precious"


def test_a_busy_port_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["robot-server", "--port", port, "--token-file", str(tmp_path / "token")]) == 2
    assert port in one_sentence(capsys)


def test_the_training_goes_after_the_control_loop(tmp_path: Path, niceness: list[int]):
    assert main(["learner", "--task", "no_such_task", "--run", str(tmp_path)]) == 2
    assert main(["actor", "--task", "no_such_task", "--run", str(tmp_path)]) == 2
    assert niceness[0] > niceness[1] == 0


def test_a_damaged_demonstration_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    demos = tmp_path / "demos"
    demos.mkdir()
    (demos / "demonstration-0000.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    arguments = ["learner", "--task", "ram_insertion", "--run", str(tmp_path / "run"), "--demos", str(demos)]
    assert main([*arguments, "--port", "0"]) == 2
    assert "demonstration-0000.safetensors" in one_sentence(capsys)
    assert main(["doctor", "--run", str(tmp_path)]) == 1
    assert "demonstration-0000.safetensors" in capsys.readouterr().out.replace("\n", "")
