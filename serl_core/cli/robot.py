"""`serl robot where|jog|stop|resume|recover|compliance`: an arm by hand, through its robot server."""

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from serl_core.cli.jog import KEYS, Jog, StepSize, check_step, require_free, short
from serl_core.cli.keyboard import single_keys
from serl_core.cli.robot_pose import Frame, where
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode, Vector3, Vector6

OWNER = "serl robot"


@dataclass(frozen=True, kw_only=True)
class _Served:
    robot: str = "http://127.0.0.1:5000"
    """Address of the robot server."""
    token_file: Path | None = None
    """Of the robot server; where it made it if not given."""

    def arm(self) -> HttpRobot:
        """Return the arm, not connected: reading and stopping need no lease."""
        return HttpRobot(self.robot, owner=OWNER, token_file=self.token_file)


@dataclass(frozen=True, kw_only=True)
class Where(_Served):
    """Print where the arm is, as lines for a task's config. Nothing moves, and nobody loses the lease."""


@dataclass(frozen=True, kw_only=True)
class JogArm(_Served):
    """Move the arm by small steps, from the keyboard, or by one step that is given."""

    by: Vector6 | None = None
    """One step instead of the keyboard: x y z in m, then roll pitch yaw in rad."""
    frame: Annotated[Frame, tyro.conf.EnumChoicesFromValues] = Frame.BASE
    """In whose axes."""
    step_m: float = 0.005
    """How far a key moves the tool, at first."""
    step_rad: float = 0.035
    """How far a key turns the tool, at first."""

    def __post_init__(self) -> None:
        if self.by is not None:
            check_step(self.by)
        StepSize(self.step_m, self.step_rad).check()


@dataclass(frozen=True, kw_only=True)
class StopArm(_Served):
    """Stop the arm and latch that; needs no lease. It is a software stop: keep the hardware stop in reach."""


@dataclass(frozen=True, kw_only=True)
class ResumeArm(_Served):
    """End a latched stop; the arm holds where it is."""


@dataclass(frozen=True, kw_only=True)
class RecoverArm(_Served):
    """Clear a latched fault, after you have looked at the arm; it holds where it is."""


@dataclass(frozen=True, kw_only=True)
class ComplianceOf:
    """Compute the impedance for the largest force that a contact may feel; needs no arm."""

    max_force: tuple[float, ...]
    """N, of the arm's spring: one number, or one each along x, y and z."""
    max_speed: float | None = None
    """m/s, where nothing is in the arm's way; the server's limit if not given."""
    max_torque: float | None = None
    """Nm, about each axis; that of the default gains if not given."""
    stiffness: float | None = None
    """N/m; chosen if not given."""
    task: str | None = None
    """Say also what a server would refuse of this task's own parameters."""
    limits_file: Path | None = None
    """The safety limits of the robot, JSON; the defaults without it."""

    def __post_init__(self) -> None:
        if len(self.max_force) not in (1, 3):
            raise ConfigError(f"--max-force: needs one number, or three for x, y and z, got {len(self.max_force)}")

    @property
    def forces_n(self) -> Vector3:
        """The most along x, y and z."""
        x, y, z = self.max_force if len(self.max_force) == 3 else self.max_force * 3
        return x, y, z


RobotArgs = (
    Annotated[Where, tyro.conf.subcommand("where")]
    | Annotated[JogArm, tyro.conf.subcommand("jog")]
    | Annotated[StopArm, tyro.conf.subcommand("stop")]
    | Annotated[ResumeArm, tyro.conf.subcommand("resume")]
    | Annotated[RecoverArm, tyro.conf.subcommand("recover")]
    | Annotated[ComplianceOf, tyro.conf.subcommand("compliance")]
)


def run_robot(args: Where | JogArm | StopArm | ResumeArm | RecoverArm | ComplianceOf) -> int:
    """Do what was asked; return 0.

    Raises:
        SerlError: an argument, the robot server or a file is not as it must be, or the arm takes no commands.
    """
    match args:
        case Where():
            with closing(args.arm()) as robot:
                print(where(robot.state()))
        case JogArm():
            with closing(args.arm()) as robot:
                _jog(robot, args)
        case StopArm():
            with closing(args.arm()) as robot:
                robot.stop()
            print("stopped; `serl robot resume` ends that")
        case ResumeArm():
            with closing(args.arm()) as robot:
                _clear(robot, Mode.STOPPED)
        case RecoverArm():
            with closing(args.arm()) as robot:
                _clear(robot, Mode.FAULT)
        case ComplianceOf():
            _print_compliance(args)
    return 0


def _jog(robot: HttpRobot, args: JogArm) -> None:
    require_free(robot.state())  # first: it is the better answer than a lease that somebody else holds
    robot.connect()
    jog = Jog(robot, args.frame, print)
    if args.by is not None:
        print(short(jog.step(args.by)))
        return
    print(KEYS.format(frame=args.frame.value))
    with single_keys(sys.stdin) as keys:
        jog.run(keys, StepSize(args.step_m, args.step_rad))
    print(where(robot.state()))


def _clear(robot: HttpRobot, latched: Mode) -> None:
    """End a stop or a fault, if that is what the arm is in."""
    state = robot.state()
    cause = state.fault
    if latched is Mode.FAULT and state.mode not in (Mode.FAULT, Mode.STOPPED) and state.gripper_fault is not None:
        cause = state.gripper_fault  # the arm itself is well
    elif state.mode is not latched:
        print(f"nothing to do: the arm's mode is {state.mode.value}")
        return
    if not state.lease_epoch:  # else beside the program that commands the arm, and waits for this
        robot.connect()
    if latched is Mode.FAULT:
        robot.recover()
    else:
        robot.resume()
    print(f"cleared {cause!r}; the arm's mode is {robot.state().mode.value}")


def _print_compliance(args: ComplianceOf) -> None:
    from robot_servers.limits import load_limits
    from serl_core.cli.compliance import compliance_for
    from serl_core.cli.compliance_report import budget, snippet, verdicts

    limits = load_limits(args.limits_file)
    found = compliance_for(
        args.forces_n, limits, speed_m_s=args.max_speed, stiffness_n_m=args.stiffness, torque_nm=args.max_torque
    )
    print(budget(found, limits))
    print(snippet(found.params))
    if args.task is not None:
        print(verdicts(load_task(args.task).config, limits))
