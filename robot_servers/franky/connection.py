"""Connecting to an arm, with every check that can be made before anything moves."""

import logging
import time

import franky
import numpy as np

from robot_servers.arm_parts.probe import knock
from robot_servers.arm_parts.realtime import check_realtime
from robot_servers.limits import SafetyLimits
from serl_core.errors import RobotError

logger = logging.getLogger(__name__)

RECOVERED_S = 2.0

_USABLE = (franky.RobotMode.Idle, franky.RobotMode.Reflex)  # a reflex is reported, and cleared on request

_REMEDIES = {
    "UserStopped": "release the user stop, or end guiding",
    "Guiding": "end the guiding",
    "Other": "unlock the joints in Desk",
    "Move": "end the program that moves the arm",
    "AutomaticErrorRecovery": "wait for the recovery to end",
}


def connect(robot_ip: str, *, enforce_realtime: bool) -> franky.Robot:
    """Return the connected arm; nothing moves.

    Raises:
        ConfigError: this computer cannot keep the arm's pace.
        RobotError: the arm is not there, does not answer, or speaks another version.
    """
    if enforce_realtime:
        check_realtime()
    knock(robot_ip)
    config = franky.RealtimeConfig.Enforce if enforce_realtime else franky.RealtimeConfig.Ignore
    try:
        return franky.Robot(robot_ip, realtime_config=config)
    except franky.IncompatibleVersionException as error:
        raise RobotError(
            f"the arm at {robot_ip} and the installed libfranka do not fit: {error}; update the arm's system image, or "
            "install the franky-control wheel for its version (Franka's compatibility table tells which)"
        ) from None
    except (franky.Exception, RuntimeError) as error:
        raise RobotError(
            f"the arm at {robot_ip} refuses the connection: {error}; activate FCI in Desk, and end other programs"
        ) from None


def configure(robot: franky.Robot, limits: SafetyLimits) -> None:
    """Set the reflex thresholds, and the frame at which external wrenches are told: the tool's.

    Raises:
        RobotError: the arm is not free, or refuses a setting.
    """
    try:
        mode = robot.state.robot_mode
        if mode not in _USABLE:
            remedy = _REMEDIES.get(mode.name, "look at the arm")
            raise RobotError(f"the arm is in mode {mode.name!r}, it must be idle to be controlled; {remedy}")
        if limits.unsafe_thresholds:
            logger.warning(
                "unsafe_thresholds: the arm stops at %s Nm in its joints and %s N, Nm at its tool, beyond what is "
                "recommended; have the user stop at hand",
                limits.collision_torque_nm,
                limits.collision_force_n,
            )
        robot.set_collision_behavior(np.array(limits.collision_torque_nm), np.array(limits.collision_force_n))
        robot.set_k(np.eye(4).flatten().tolist())
    except (franky.Exception, RuntimeError) as error:
        raise RobotError(
            f"the arm refuses its settings: {error}; activate FCI in Desk, and end other programs"
        ) from None


def recover_from_errors(robot: franky.Robot) -> None:
    """Clear a reflex.

    Raises:
        RobotError: the arm keeps its errors.
    """
    robot.recover_from_errors()  # its answer is about the state before: the arm's next ones tell
    give_up_s = time.monotonic() + RECOVERED_S
    while robot.has_errors:
        if time.monotonic() > give_up_s:
            raise RobotError(f"its errors stay: {robot.state.current_errors}")
        time.sleep(0.002)
