"""`serl console`: the operator's page, served on this machine."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from actors.console.auth import load_or_create_token
from actors.console.link import TOKEN_FILE, link
from actors.console.robot_connection import split_url
from actors.console.server import create_server
from actors.console.settings import ConsoleSettings
from actors.console.steering_frames import load_mountings
from actors.console.task_facts import load_config
from actors.console.wrench_limits import load_wrench_limits
from serl_core.errors import ConfigError, RobotError
from serl_core.exposure import check_exposure, reminded
from serl_core.robots.token import default_token_file, read_token
from serl_core.serving import bind, url_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConsoleArgs:
    """Watch, stop, correct and label from a browser."""

    run: Path
    """Folder of the run; it may still be empty."""
    robot: str = "http://127.0.0.1:5000"
    """Address of the robot server."""
    no_robot_server: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """There is none: the arm is simulated in the training's own process."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    actor: str | None = None
    """The actor's id, such as actor-0; the one that started last if not given."""
    task: str | None = None
    """The task, if the run's folder has no task.json."""
    other_runs: tuple[Path, ...] = ()
    """Folders of runs to compare with."""
    clips: Path | None = None
    """Folder of the videos of `serl eval --video`; the run's `videos` if not given."""
    limits_file: Path | None = None
    """A copy of the robot server's limits, for the bars of force and torque; its defaults without it."""
    camera_mountings: Path | None = None
    """How the cameras are turned, JSON, to steer in their axes; those of the simulated arm without it."""
    token_file: Path | None = None
    """The robot server's token; default $SERL_TOKEN_FILE or ~/.config/serl/robot.token."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    insecure_lan: bool = False
    """Listen on an address that others can reach, although the connection is not encrypted."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which browsers call this machine, besides its address."""
    ready_file: Path | None = None
    """The console's address is written there, without the token, and no link is printed."""


def run_console(args: ConsoleArgs) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SerlError: the port is busy, or a file or an option is wrong.
    """
    check_exposure(args.host, is_encrypted=False, is_allowed=args.insecure_lan)
    split_url(args.robot)
    if not args.no_robot_server:
        _look_for(args.token_file or default_token_file())
    run = args.run.absolute()
    config = load_config(run, args.task)
    settings = ConsoleSettings(
        run=run,
        robot=None if args.no_robot_server else args.robot,
        robot_token_file=args.token_file or default_token_file(),
        actor_id=args.actor,
        task=args.task or (config.name if config is not None else None),
        config=config,
        other_runs=_by_name(run, args.other_runs),
        clips=args.clips or run / "videos",
        limits=load_wrench_limits(args.limits_file),
        mountings=load_mountings(args.camera_mountings),
    )
    token = load_or_create_token(run / TOKEN_FILE)
    with bind(args.host, args.port) as listener:
        server = create_server(settings, token, listener, hosts=args.allowed_hosts, ready_file=args.ready_file)
        if args.ready_file is None:
            # On the terminal only: no logger may ever see the token.
            sys.stdout.write(f"console: {link(url_of(listener), token)}\n")
            sys.stdout.flush()
        with reminded("the console", args.host, is_encrypted=False):
            server.run([listener])


def _look_for(token_file: Path) -> None:
    try:
        read_token(token_file)
    except RobotError as error:  # the robot server may start in a moment, and make it
        logger.warning("%s", error)


def _by_name(run: Path, others: tuple[Path, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in others:
        if path.name in found or path.name == run.name:
            raise ConfigError(f"--other-runs: two runs are called {path.name!r}; rename a folder")
        found[path.name] = path
    return found
