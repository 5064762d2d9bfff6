"""Connecting to a Panda: every check that comes before the first command, each with its remedy."""

import socket
import struct

import numpy as np
import panda_py
from panda_py import constants, libfranka

from robot_servers.backend import Floats
from robot_servers.limits import SafetyLimits
from robot_servers.panda_reading import REFLEX, USER_STOPPED, trouble
from serl_core.errors import ConfigError, RobotError

ROBOT_PORT = 1337  # libfranka's, for commands
CONNECT_S = 2.0
ANSWER_S = 2.0
VERSION = 5  # of the protocol; any is answered, and whether it fits is for libfranka to say

# The greeting of libfranka's protocol: command 0, a number, the length, the version, the UDP port for states.
ROBOT_GREETING = struct.Struct("<IIIHH")
HAND_GREETING = struct.Struct("<HIIHH")  # the hand's commands are shorter


def connect(robot_ip: str, limits: SafetyLimits, *, enforce_realtime: bool) -> panda_py.Panda:
    """Return a connection to an arm that is free to be controlled; nothing moves, no error is cleared.

    Raises:
        ConfigError: this computer may not control an arm in real time.
        RobotError: nobody answers, another version or another arm does, or it is not free; with the remedy.
    """
    if enforce_realtime:
        check_realtime()
    knock(robot_ip, ROBOT_PORT, ROBOT_GREETING, "arm")
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


def knock(address: str, port: int, greeting: struct.Struct, what: str) -> None:
    """Greet what should be at `address`, and hang up; nothing moves.

    libfranka waits for an answer for ever, and panda-python keeps every other Python thread from running meanwhile.

    Raises:
        RobotError: nobody is there, or nobody answers in time, with the remedy.
    """
    try:
        connection = socket.create_connection((address, port), timeout=CONNECT_S)
    except ConnectionRefusedError:
        raise RobotError(
            f"{what} at {address}: port {port} is closed; check --robot-ip, unlock the joints and activate FCI in Desk"
        ) from None
    except OSError as error:
        raise RobotError(
            f"{what} at {address}: no answer ({error.strerror or error}); check --robot-ip, that it is switched on, "
            "and that the cable goes to the control box"
        ) from None
    with connection, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states:
        states.bind(("", 0))
        try:
            connection.sendall(greeting.pack(0, 1, greeting.size, VERSION, states.getsockname()[1]))
            connection.settimeout(ANSWER_S)
            is_answered = connection.recv(1) != b""
        except OSError:  # a time-out is one
            is_answered = False
    if not is_answered:
        raise RobotError(
            f"{what} at {address} does not answer within {ANSWER_S:g} s; another program may control it: end that one "
            "(one program at a time can), or restart FCI in Desk"
        )


def check_realtime() -> None:
    """Refuse a computer that cannot send a torque every millisecond."""
    if not libfranka.has_realtime_kernel():
        raise ConfigError(
            "this kernel has no real-time scheduling, which the arm's control needs; boot one with PREEMPT_RT, "
            "or pass --ignore-realtime, and expect the arm to stop now and then"
        )
    is_allowed, why = panda_py.realtime_priority_available()
    if not is_allowed:
        raise ConfigError(
            f"this user may not take real-time priority ({why}); add 'rtprio 99' and 'memlock unlimited' to "
            "/etc/security/limits.conf and log in again, or pass --ignore-realtime"
        )


def check_free(state: libfranka.RobotState) -> None:
    """Refuse an arm that is stopped, in a reflex, or controlled by another program."""
    cause = trouble(state)
    if cause == REFLEX:
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
