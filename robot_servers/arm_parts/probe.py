"""A first knock at an arm or its hand, with a time limit: libfranka itself waits for ever where another is served.

It is the greeting of libfranka's wire protocol: a header of command 0, a number and the length, then the version
of the protocol and the UDP port for states. The answer is a status and a version, to whoever is served.
"""

import socket
import struct
import time
from typing import NamedTuple

from serl_core.errors import RobotError

CONNECT_S = 1.0
ANSWER_S = 2.0
VERSIONS = "HH"  # the version and the UDP port; in the answer a status and a version


class Door(NamedTuple):
    """Where a part of the robot listens."""

    what: str
    port: int
    header: str
    version: int  # any number is answered; whether this libfranka fits is for libfranka to say
    remedy: str


ARM = Door("arm", 1337, "<III", 10, "check --robot-ip, unlock the joints and activate FCI in Desk")
HAND = Door("hand", 1338, "<HII", 3, "check its plug, set the end effector in Desk, or pass --gripper none")


def knock(address: str, door: Door = ARM, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S) -> None:
    """Greet what listens at `address`, and hang up; nothing moves.

    Raises:
        RobotError: nobody is there, or the one there does not answer, with the remedy.
    """
    try:
        connection = socket.create_connection((address, door.port), timeout=connect_s)
    except ConnectionRefusedError:
        raise RobotError(
            f"{address} has no {door.what} that takes commands (port {door.port} is closed); {door.remedy}"
        ) from None
    except OSError as error:
        raise RobotError(
            f"no {door.what} at {address}: {error.strerror or error}; check --robot-ip, that the arm is switched on, "
            "and that the cable goes to the control box and not to the arm"
        ) from None
    with connection, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states:
        states.bind(("", 0))
        greeting = struct.Struct(door.header + VERSIONS)
        try:
            connection.sendall(greeting.pack(0, 1, greeting.size, door.version, states.getsockname()[1]))
            answer = _receive(connection, greeting.size, time.monotonic() + answer_s)
        except OSError:  # a time-out is one
            answer = b""
    if len(answer) < greeting.size:
        raise RobotError(
            f"the {door.what} at {address} does not answer within {answer_s:g} s; another program may control it: "
            "end that one (one program at a time can), or restart FCI in Desk"
        )


def _receive(connection: socket.socket, size: int, until_s: float) -> bytes:
    received = b""
    while len(received) < size:
        connection.settimeout(max(until_s - time.monotonic(), 0.001))
        part = connection.recv(size - len(received))
        if not part:
            break
        received += part
    return received
