"""The two pages that these files are explained on: each command in them exists, with the options it is shown with."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from serl_core.cli.main import COMMANDS, _load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "how-to" / name for name in ("commission.md", "deploy.md")]
SERL = re.compile(r"^serl ([a-z].+)$")
IN_CONTAINER = re.compile(r"^docker compose .* run --rm actor (.+)$")


def commands(page: Path) -> list[str]:
    """The `serl` commands in a page's code blocks, and those that a container is started with."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [found[1] for line in lines for pattern in (SERL, IN_CONTAINER) if (found := pattern.match(line))]


COMMAND_LINES = [(page.name, line) for page in PAGES for line in commands(page)]


def test_there_are_commands_to_check():
    assert len([line for name, line in COMMAND_LINES if name == "commission.md"]) > 8
    assert len([line for name, line in COMMAND_LINES if name == "deploy.md"]) == 2


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES)
def test_a_command_on_the_page_is_one_that_serl_takes(page: str, line: str):
    name, *options = shlex.split(line, comments=True)
    tyro.cli(_load(COMMANDS[name])[0], args=options)  # ends the test with status 2 where an option does not exist


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path):
    named = set(re.findall(r"docker/[\w./-]+\w", page.read_text())) - {"docker/.env"}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_page_says_that_the_images_were_not_run():
    assert "linted and not run" in PAGES[1].read_text()
