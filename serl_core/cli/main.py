"""The `serl` command: finds the program by its name, imports only that, prints errors in one sentence."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import tyro

from serl_core.errors import SerlError


class Command(NamedTuple):
    """A program: where its arguments and its entry stand, and what it is for.

    `niceness` lowers the priority of its process, as `nice` does: the control loop goes before the training.
    """

    module: str
    args: str
    run: str
    summary: str
    niceness: int = 0


COMMANDS = {
    "demo": Command("serl_core.cli.demo", "DemoArgs", "run_demo", "record, train, evaluate and report, in simulation"),
    "train": Command("serl_core.cli.train", "TrainArgs", "run_train", "train in one process, reproducible to the bit"),
    "robot-server": Command("robot_servers.main", "RobotServerArgs", "run_robot_server", "serve one arm over HTTP"),
    "franky-sim": Command(
        "robot_servers.franky_sim", "FrankySimArgs", "run_franky_sim", "a simulated FR3 for libfranka"
    ),
    "learner": Command("learners.main", "LearnerArgs", "run_learner", "train from what the actors send", niceness=5),
    "actor": Command("actors.main", "ActorArgs", "run_actor", "run the policy on the arm, take in corrections"),
    "record": Command("actors.main", "RecordArgs", "run_record", "record demonstrations"),
    "eval": Command("actors.main", "EvalArgs", "run_eval", "score a policy alone, on a fixed grid of starts"),
    "classifier": Command(
        "serl_core.cli.classifier", "ClassifierArgs", "run_classifier", "record, train, eval, review: reward classifier"
    ),
    "console": Command("actors.console.main", "ConsoleArgs", "run_console", "watch, stop, correct from a browser"),
    "report": Command("serl_core.cli.report", "ReportArgs", "run_report", "write a run's report.html anew"),
    "weights": Command("serl_core.cli.weights", "WeightsArgs", "run_weights", "convert ResNet-10's published weights"),
    "encoder": Command("serl_core.cli.encoder", "EncoderArgs", "run_encoder", "train the small image encoder anew"),
    "robot": Command("serl_core.cli.robot", "RobotArgs", "run_robot", "where, jog, stop, resume, recover, compliance"),
    "audit": Command("serl_core.cli.audit", "AuditArgs", "run_audit", "verify a robot server's audit log"),
    "keys": Command("serl_core.cli.keys", "KeysArgs", "run_keys", "init, add, revoke: actors on other machines"),
    "doctor": Command("serl_core.cli.doctor", "DoctorArgs", "run_doctor", "check this machine, or a run's files"),
}

EXIT_ERROR = 2

EXTRAS = {
    "franky": "server,franka",
    "franky_sim": "franka-sim",
    "panda_py": "server,panda",
    "pymodbus": "server,robotiq",
}


def main(argv: list[str] | None = None) -> int:
    """Run the program named by the first argument.

    Returns:
        Its exit status; 2 after an error that its user can mend.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else EXIT_ERROR
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        print(f"serl: no command {name!r}; allowed are {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_ERROR
    try:
        _set_up_logging(os.environ.get("SERL_LOG", "INFO"))
        args_type, run = _load(COMMANDS[name])
        args = tyro.cli(args_type, args=rest, prog=f"serl {name}", description=COMMANDS[name].summary)
        os.nice(COMMANDS[name].niceness)  # before there is any other thread: those begin with this one's
        return run(args) or 0
    except SerlError as error:
        print(f"serl {name}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:  # a driver's library, imported once the driver is chosen
        if error.name not in EXTRAS:
            raise
        print(f"serl {name}: {_missing(error.name)}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"serl {name}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"serl {name}: stopped by Ctrl-C", file=sys.stderr)
        return 130


def usage() -> str:
    """Return the overview of all commands."""
    lines = [f"  {name:<14}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: serl COMMAND [--help] ...", "", *lines])


def _set_up_logging(level: str) -> None:
    if level not in logging.getLevelNamesMapping():
        raise SerlError(f"SERL_LOG: must be one of {', '.join(logging.getLevelNamesMapping())}, got {level!r}")
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for chatty in ("httpx", "httpcore", "absl", "jax", "websockets", "matplotlib", "OpenGL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _load(command: Command) -> tuple[Any, Callable[[Any], int | None]]:
    """Return the type of a program's arguments (a dataclass, or a union of those of its parts) and its entry."""
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("serl_core", "actors", "learners", "robot_servers"):
            raise
        raise SerlError(_missing(error.name)) from None
    return getattr(module, command.args), getattr(module, command.run)


def _missing(package: str | None) -> str:
    """Return the sentence about a package that is not installed."""
    if package in EXTRAS:
        return f"the package {package!r} is missing; pip install 'serl[{EXTRAS[package]}]'"
    return (
        f"the package {package!r} is missing; install the extra that has it, "
        "such as pip install 'serl[server,sim,learner]'"
    )


if __name__ == "__main__":
    sys.exit(main())
