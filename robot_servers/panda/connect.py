"""Connecting to a Panda: every check that comes before the first command, each with its remedy."""

import numpy as np
import panda_py
from panda_py import constants, libfranka

from robot_servers.arm_parts.probe import knock
from robot_servers.arm_parts.realtime import check_realtime
from robot_servers.backend import Floats
from robot_servers.limits import SafetyLimits
from robot_servers.panda.reading import NOT_CONTROLLED, USER_STOPPED, trouble
from serl_core.errors import RobotError


def connect(robot_ip: str, limits: SafetyLimits, *, enforce_realtime: bool) -> panda_py.Panda:
    """Return a connection to an arm that is free to be controlled; nothing moves, no error is cleared.

    Raises:
        ConfigError: this computer may not control an arm in real time.
        RobotError: nobody answers, another version or another arm does, or it is not free; with the remedy.
    """
    if enforce_realtime:
        check_realtime()
    knock(
        robot_ip
    )  # libfranka waits for an answer for ever, and keeps every other Python thread from running meanwhile
    config = libfranka.RealtimeConfig.kEnforce if enforce_realtime else libfranka.RealtimeConfig.kIgnore
    try:
        panda = panda_py.Panda(robot_ip, "panda", config)
        panda.refresh_state()
        check_free(panda.get_state())
        check_model(panda.get_joint_limits_lower(), panda.get_joint_limits_upper())
        torque, force = list(limits.collision_torque_nm), list(limits.collision_force_n)
        panda.get_robot().set_collision_behavior(torque, torque, force, force)
    except panda_py.IncompatibleVersionError as error:
        raise RobotError(f"arm at {robot_ip}: {error}") from None
    except RuntimeError as error:  # what libfranka's exceptions become
        raise RobotError(
            f"arm at {robot_ip}: {error}; check that FCI is active in Desk, and that no other program is connected"
        ) from None
    return panda


def check_free(state: libfranka.RobotState) -> None:
    """Refuse an arm that is stopped, in a reflex, or controlled by another program."""
    cause = trouble(state)
    if cause not in (None, USER_STOPPED, NOT_CONTROLLED):
        raise RobotError(f"the arm is in a reflex {state.current_errors!r}; look at it, clear it in Desk, start again")
    if cause == USER_STOPPED:
        raise RobotError("the arm is stopped by its user stop or enabling device; release that, and start again")
    if cause is not None:
        raise RobotError(f"the arm is in mode {state.robot_mode.name}; unlock its joints and activate FCI in Desk")
    if state.robot_mode == libfranka.RobotMode.kMove:
        raise RobotError("another program moves the arm; end that one, and start again")


def check_model(low_rad: Floats, high_rad: Floats) -> None:
    """Refuse an arm whose joints have other ends than those that the kernel was given."""
    if not (np.allclose(low_rad, constants.JOINT_LIMITS_LOWER) and np.allclose(high_rad, constants.JOINT_LIMITS_UPPER)):
        raise RobotError("this arm is an FR3, not a Panda: its joints have other limits; use --backend franky")
