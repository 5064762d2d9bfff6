"""The device that was asked for, made for a task and its robot."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from actors.operator_desk import OperatorDesk
from actors.teleop.browser import BrowserTeleop, CombinedTeleop, misfit_of
from actors.teleop.choice import NoTeleop, TeleopKind, check_person, check_scripted
from actors.teleop.interface import Teleop
from actors.teleop.puck import SpaceMouseConfig
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from actors.teleop.spacemouse import make_spacemouse
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TeleopArgs:
    """Who corrects the policy, or demonstrates."""

    teleop: Annotated[TeleopKind, tyro.conf.EnumChoicesFromValues] = TeleopKind.AUTO  # a simulated robot: scripted
    spacemouse: SpaceMouseConfig = field(default_factory=SpaceMouseConfig)
    skill: ExpertSkill = field(default_factory=ExpertSkill)  # of the scripted human
    mock_robot: bool = False  # no arm is behind the robot server, as with franky-sim: the scripted human may act


def make_teleop(
    args: TeleopArgs, task: Task, env: ArmEnv, seed: int, desk: OperatorDesk | None, *, is_demonstrating: bool = False
) -> Teleop:
    """Return the device that was chosen; open it before the robot, so that one that is missing leaves the arm alone.

    Args:
        desk: where operators come in, who may take over beside any device; None where none do.

    Raises:
        ConfigError: this robot, or this task, does not allow the choice.
    """
    if args.teleop is TeleopKind.BROWSER and desk is not None:
        check_person(env.robot.health(), args.teleop)
        return BrowserTeleop(task.config.action.spec, desk, lambda: env.state, is_demonstrating=is_demonstrating)
    device = _device(args, task, env, seed, is_demonstrating=is_demonstrating)
    if desk is None:
        return device
    misfit = misfit_of(task.config.action.spec)
    if misfit is not None:
        desk.why_not_steer = misfit
        return device
    browser = BrowserTeleop(task.config.action.spec, desk, lambda: env.state)
    return CombinedTeleop(browser, device, lambda: env.state)


def _device(args: TeleopArgs, task: Task, env: ArmEnv, seed: int, *, is_demonstrating: bool) -> Teleop:
    match args.teleop:
        case TeleopKind.SPACEMOUSE:
            check_person(env.robot.health())
            states = {"": lambda: env.state}
            spec = task.config.action.spec
            return make_spacemouse(spec, args.spacemouse, states, is_demonstrating=is_demonstrating)
        case TeleopKind.NONE if is_demonstrating:
            raise ConfigError("--teleop none: then nobody demonstrates; give --teleop spacemouse, browser or scripted")
        case TeleopKind.NONE | TeleopKind.BROWSER:
            return NoTeleop(task.config.action.spec)
        case TeleopKind.AUTO | TeleopKind.SCRIPTED:
            check_scripted(args.teleop, env.robot.health(), is_mock=args.mock_robot)
            return ScriptedTeleop(task, env, skill=args.skill, seed=seed, is_demonstrating=is_demonstrating)


@contextmanager
def opened(teleop: Teleop) -> Iterator[Teleop]:
    """Yield an open device, and close it afterwards."""
    with closing(teleop):
        teleop.open()
        yield teleop
