"""`serl doctor`: what this machine has for its part of the system, and whether the files of a run are whole."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from serl_core.cli.doctor_checks import (
    Check,
    Part,
    Parts,
    Verdict,
    check_disk,
    check_gl,
    check_gpu,
    check_port,
    greeting_of,
)
from serl_core.cli.doctor_devices import (
    check_arm,
    check_realsense,
    check_robot_server,
    check_space_mouse,
    check_video,
)
from serl_core.cli.doctor_libraries import check_libraries, installed_parts, is_installed
from serl_core.cli.doctor_real_time import check_governor, check_kernel, check_real_time_limits
from serl_core.data.episode_log import load_episode
from serl_core.errors import DataError, RobotError
from serl_core.robots.http_client import HttpRobot

SERVER_PORT, LEARNER_PORT = 5000, 5588  # the programs' defaults
ZMTP = b"\xff"  # how the greeting of ZeroMQ's protocol begins, RFC 37
COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.RED: "bold red"}


@dataclass(frozen=True, kw_only=True)
class DoctorArgs:
    """Check this machine, and a run's files if one is named."""

    parts: Annotated[tuple[Part, ...], tyro.conf.arg(name="for"), tyro.conf.EnumChoicesFromValues] = ()
    """Which parts must work on this machine; those whose libraries are installed if not given."""
    robot_ip: str | None = None
    """Address of a real arm: is it there? Only while nothing controls it."""
    robot: str | None = None
    """Address of a robot server: does it take commands?"""
    token_file: Path | None = None
    """Of the robot server; where it made it if not given."""
    run: Path | None = None
    """Folder of a run or of demonstrations: are its files whole?"""


def run_doctor(args: DoctorArgs) -> int:
    """Print one line per check; return 1 if one is red, or a file of the run is damaged."""
    damaged = list(_damaged(args.run)) if args.run is not None else []
    console = Console()
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    _print(console, machine)
    parts = args.parts or installed_parts()
    _print(console, f"must work here: {', '.join(part.value for part in parts) or 'nothing'}")
    reds = 0
    for check in checks(parts, args):
        reds += check.verdict is Verdict.RED
        _print_check(console, check)
    for message in damaged:
        _print(console, Text.assemble(("damaged ", "bold red"), message))
    if args.run is not None:
        _print(console, f"{args.run}: {len(damaged)} damaged files")
    return 1 if reds or damaged else 0


def checks(parts: Parts, args: DoctorArgs) -> Iterator[Check]:
    """Yield what is found, one check after the other: some of them wait for a device."""
    yield check_kernel(parts)
    yield from check_real_time_limits(parts)
    yield from check_governor(parts)
    yield from check_libraries(parts)
    if is_installed("mujoco"):
        yield check_gl(parts)
    yield from check_gpu(parts, has_plugin=is_installed("jax_cuda12_plugin") or is_installed("jax_cuda13_plugin"))
    yield from check_video(parts)
    yield from check_realsense(parts)
    yield from check_space_mouse(parts)
    if args.robot_ip is not None:
        yield check_arm(args.robot_ip)
    elif Part.ROBOT in parts:
        yield Check("arm", Verdict.WARN, "not looked for", "name it with --robot-ip, such as 172.16.0.2")
    if args.robot is not None:
        yield check_robot_server(args.robot, args.token_file)
    if {Part.ROBOT, Part.SIM}.intersection(parts):
        yield check_port("robot server", SERVER_PORT, _robot_server(SERVER_PORT))
    if Part.LEARNER in parts:
        is_learner = greeting_of(LEARNER_PORT).startswith(ZMTP)
        yield check_port("learner", LEARNER_PORT, "a learner" if is_learner else None)
    yield check_disk(args.run if args.run is not None and args.run.is_dir() else Path.cwd())


def _robot_server(port: int) -> str | None:
    robot = HttpRobot(f"http://127.0.0.1:{port}", owner="serl doctor", timeout_s=1.0)
    try:
        return f"a robot server, backend {robot.health().backend}"
    except RobotError:
        return None


def _print_check(console: Console, check: Check) -> None:
    line = Text.assemble((f"{check.verdict.value:<5}", COLOURS[check.verdict]), f"{check.what:<27} {check.found}")
    if check.remedy:
        line.append(f"; {check.remedy}", style="italic")
    _print(console, line)


def _print(console: Console, line: str | Text) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _damaged(run: Path) -> Iterator[str]:
    if not run.is_dir():
        raise DataError(f"{run}: no such folder")
    for path in sorted(run.rglob("*.safetensors")):
        if path.parent.name not in ("demos", "episodes"):
            continue
        try:
            load_episode(path)
        except DataError as error:
            yield str(error)
