"""What the pages show is real: each `serl` command is parsed by its program's own parser, and not run; files load."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import tyro

from serl_core.cli.main import COMMANDS, main
from serl_core.envs.task import load_task

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
WALKTHROUGH = ROOT / "docs" / "tutorial" / "real-robot"

PLACES = "actors|benchmarks|docker|docs|examples|learners|robot_servers|serl_core|tests"
FILE = re.compile(rf"`((?:{PLACES})/[\w./-]*)`")
BY_USERS = ("examples/my_", "docker/.env")  # files that a reader makes
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(serl\s[^`]+)`")
BEFORE = re.compile(r"(sudo|nice|time|pixi|run|-n|\d+|[A-Z_]+=\S*)$")  # what may stand in front of `serl`
SHELL = ("", "bash", "console", "sh")  # fences in another language, and those of `text`, show no commands


class Shown(NamedTuple):
    """A command as a page shows it."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)[1:]


def commands_in(text: str) -> list[str]:
    """Return the `serl` commands of the fenced blocks, each as one line that begins with `serl`."""
    found = []
    for _, language, block in FENCE.findall(text):
        if language not in SHELL:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:&&|\|)\s|;\s", line.strip()):
                words = part.removesuffix("&").removeprefix("$ ").split()
                while words and BEFORE.match(words[0]):
                    words.pop(0)
                if words[:1] == ["serl"] and words[1:2] != ["-"]:  # `serl - rtprio 99` is a line of limits.conf
                    found.append(" ".join(words))
                _, in_container, rest = part.partition(" run --rm actor ")
                if in_container:
                    found.append(f"serl {rest}")
    return found


FENCED = [Shown(page.name, line) for page in PAGES for line in commands_in(page.read_text())]
MENTIONED = [
    Shown(page.name, " ".join(line.split()))
    for page in PAGES
    for line in INLINE.findall(FENCE.sub("", page.read_text()))
]


def parsed(words: list[str]) -> object:
    """Return the arguments that a program would run with."""
    command = COMMANDS[words[0]]
    return tyro.cli(getattr(importlib.import_module(command.module), command.args), args=words[1:])


def options_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options that a program, or the subcommand that is named, knows."""
    subcommands = [word for word in words[1:2] if not word.startswith("-")]
    with pytest.raises(SystemExit) as ended:
        main([words[0], *subcommands, "--help"])
    assert ended.value.code == 0
    return set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))


@pytest.mark.parametrize("shown", dict.fromkeys(FENCED), ids=lambda shown: f"{shown.page}: {shown.line}")
def test_a_command_in_a_block_is_taken_by_its_program(shown, capsys):
    try:
        parsed(shown.words)
    except SystemExit as refusal:
        pytest.fail(f"{shown.page}: `{shown.line}` is refused with status {refusal.code}: {capsys.readouterr()}")


def test_a_command_in_a_sentence_names_a_program_and_its_options(capsys):
    """It may be shortened, as in `serl demo --backend franky-sim` or `serl eval --video`."""
    known: dict[tuple[str, ...], set[str]] = {}
    wrong = []
    for page, line in dict.fromkeys(MENTIONED):
        words = [word for word in line.replace("|", " ").split()[1:] if word != "..."]
        if words[0] == "COMMAND":  # stands for each of them
            continue
        if words[0] not in COMMANDS:
            wrong.append((page, line, words[0]))
            continue
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        place = tuple(words[:2])
        if options and place not in known:
            known[place] = options_of(words, capsys)
        wrong += [(page, line, option) for option in options - known.get(place, options)]
    assert wrong == []


def test_the_pages_show_commands_of_every_program():
    shown = {command.words[0] for command in FENCED} | {command.line.split()[1] for command in MENTIONED}
    assert set(COMMANDS) - shown == set()


def test_what_is_no_command_is_told_from_one():
    text = "```\n$ SERL_LOG=DEBUG serl robot \\\n  where  # now\nserl - rtprio 99\n```\n```text\nserl robot: no\n```\n"
    assert commands_in(text) == ["serl robot where # now"]
    assert Shown("page", "serl robot where # now").words == ["robot", "where"]


@pytest.mark.parametrize("line", ["serl robot where --robt x", "serl eval --task reach", "serl robot dance"])
def test_a_wrong_command_is_refused(line, capsys):
    with pytest.raises(SystemExit):
        parsed(Shown("page", line).words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    named = [name for name in FILE.findall(page.read_text()) if not name.startswith(BY_USERS)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_task_file_of_the_walkthrough_loads_and_starts_out_of_the_socket(tmp_path):
    """A user copies it and changes numbers: each of its fields must be one that there is."""
    (code,) = [block for _, kind, block in FENCE.findall((WALKTHROUGH / "5-task.md").read_text()) if kind == "python"]
    path = tmp_path / "walkthrough_task.py"
    path.write_text(code)
    config = load_task(str(path)).config
    assert {camera.name for camera in config.observation.cameras} == {"wrist", "side"}
    assert config.reset.lift_to_z_m == pytest.approx(config.target_pose[2] + 0.06)


def test_the_limits_that_the_walkthrough_shows_are_those_that_come_along():
    (shown,) = [block for _, kind, block in FENCE.findall((WALKTHROUGH / "3-limits.md").read_text()) if kind == "json"]
    assert json.loads(shown) == json.loads((ROOT / "docker" / "limits.json").read_text())
