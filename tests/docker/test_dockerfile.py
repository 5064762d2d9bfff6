"""The rules that the Dockerfile keeps. No image is built here: there may be no daemon to build one."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
PINNED = re.compile(r"^[\w./-]+:\d+\.\d+\.\d+[\w.-]*$")
SPOILED = [
    ("FROM python:3.11.13-slim-bookworm AS base", "FROM python:latest AS base", "latest"),
    ("FROM python:3.11.13-slim-bookworm AS base", "FROM python AS base", "pinned"),
    ("FROM python:3.11.13-slim-bookworm AS base", "FROM python:3.11 AS base", "pinned"),
    ("WORKDIR /src", "ADD https://example.org/x.tar /src", "ADD"),
    ("WORKDIR /src", "RUN curl -s https://example.org | sh", "into a shell"),
    ("WORKDIR /src", "RUN pip install --index-url https://example.org/simple x", "index"),
    ("WORKDIR /src", "RUN apt-get install -y vim", "apt-get update"),
    ("WORKDIR /src", "RUN sudo true", "sudo"),
    ("WORKDIR /src", "ENV ROBOT_TOKEN=abc", "secret"),
    ("COPY pyproject.toml constraints.txt README.md LICENSE ./", "COPY . .", "whole"),
    ("COPY serl_core serl_core", "COPY no_such_folder serl_core", "no_such_folder"),
    ('USER serl\nCMD ["learner"', 'CMD ["learner"', "learner ends as root"),
    ('USER serl\nCMD ["learner"', 'USER root\nCMD ["learner"', "learner ends as root"),
    ('CMD ["actor", "--help"]', "CMD serl actor", "exec form"),
]


class Instruction(NamedTuple):
    name: str
    value: str


def parsed(text: str) -> list[Instruction]:
    """The instructions, with lines that are continued joined and comments gone."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined]


def stages(instructions: list[Instruction]) -> dict[str, list[Instruction]]:
    """The instructions of each named stage, its FROM first."""
    found: dict[str, list[Instruction]] = {}
    for instruction in instructions:
        if instruction.name == "FROM":
            found[instruction.value.split(" AS ")[-1]] = []
        found[list(found)[-1]].append(instruction)
    return found


def targets(found: dict[str, list[Instruction]]) -> list[str]:
    """The stages that nothing else is made from: the images."""
    used = {part[0].value.split()[0] for part in found.values()}
    copied = set(re.findall(r"--from=(\S+)", " ".join(i.value for part in found.values() for i in part)))
    return [name for name in found if name not in used | copied]


def faults(text: str) -> list[str]:
    """What breaks a rule, in words."""
    instructions = parsed(text)
    found = stages(instructions)
    wrong = [f"{i.name} is not used here" for i in instructions if i.name not in INSTRUCTIONS]
    for part in found.values():
        image = part[0].value.split()[0]
        if image not in found and not PINNED.match(image):
            wrong.append(f"{image}: the tag must be pinned to a whole version, not latest or none")
    for i in instructions:
        if i.name == "RUN":
            wrong += [f"RUN: {what}" for what, pattern in BAD_COMMANDS.items() if re.search(pattern, i.value)]
            if "apt-get install" in i.value and not re.search("apt-get update.*no-install-recommends.*rm -rf", i.value):
                wrong.append("RUN: apt-get update, install without recommendations and clean up in one layer")
        if i.name in ("ENV", "ARG") and re.search(r"(PASSWORD|SECRET|\w*TOKEN)=", i.value):
            wrong.append(f"{i.name}: a secret does not belong into an image")
        if i.name in ("ENTRYPOINT", "CMD") and not i.value.startswith("["):
            wrong.append(f"{i.name}: use the exec form, so that signals arrive")
        if i.name == "COPY" and "--from" not in i.value:
            *sources, _ = i.value.split()
            if "." in sources:
                wrong.append("COPY: not the whole tree")
            wrong += [f"COPY: no {source} here" for source in sources if not (ROOT / source).exists()]
    for name in targets(found):
        users = [i.value for part in lineage(name, found) for i in part if i.name == "USER"]
        if not users or users[-1] in ("root", "0"):
            wrong.append(f"{name} ends as root")
    return wrong


BAD_COMMANDS = {
    "sudo": r"\bsudo\b",
    "a download into a shell": r"(curl|wget)[^|]*\|\s*(ba)?sh",
    "another package index": r"index-url|trusted-host|find-links",
}


def lineage(name: str, found: dict[str, list[Instruction]]) -> list[list[Instruction]]:
    """The stage and those it is made from, the oldest first."""
    parent = found[name][0].value.split()[0]
    return [*(lineage(parent, found) if parent in found else []), found[name]]


def test_the_dockerfile_keeps_every_rule():
    assert faults(DOCKERFILE.read_text()) == []


@pytest.mark.parametrize(("line", "instead", "word"), SPOILED)
def test_each_rule_finds_what_breaks_it(line, instead, word):
    text = DOCKERFILE.read_text()
    assert line in text
    found = faults(text.replace(line, instead, 1))
    assert len(found) == 1
    assert word in found[0]


def test_there_is_an_image_for_each_program():
    assert targets(stages(parsed(DOCKERFILE.read_text()))) == ["robot-server", "actor", "learner"]


def test_libraries_are_installed_before_the_sources_are_copied():
    """Else each change of a line of code would download everything again."""
    build = stages(parsed(DOCKERFILE.read_text()))["build"]
    installs = next(i for i, instruction in enumerate(build) if "-c constraints.txt" in instruction.value)
    copies = [i for i, instruction in enumerate(build) if instruction == Instruction("COPY", "serl_core serl_core")]
    assert copies
    assert installs < copies[0]


def test_every_package_of_the_distribution_is_copied():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    build = stages(parsed(DOCKERFILE.read_text()))["build"]
    copied = [i.value.split()[0] for i in build if i.name == "COPY" and i.value.split()[0] in wheel["packages"]]
    assert sorted(copied) == sorted(wheel["packages"])


def test_the_learner_is_not_told_where_the_robots_token_is():
    """Only the actor talks to the robot."""
    found = stages(parsed(DOCKERFILE.read_text()))
    for name, has_token in (("actor", True), ("robot-server", True), ("learner", False)):
        settings = " ".join(i.value for part in lineage(name, found) for i in part if i.name == "ENV")
        assert ("SERL_TOKEN_FILE" in settings) == has_token
