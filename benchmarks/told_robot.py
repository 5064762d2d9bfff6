"""A simulated robot server in real time that notes, with the time, each target it is told and where the arm is.

Run as `python benchmarks/told_robot.py NOTES OPTIONS...` with the options of `serl robot-server`. NOTES gets records of
`RECORD`: a letter, this machine's monotonic clock in s, and a position in m in the base frame. The arm's place is
noted every 5 ms.
"""

import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple

import tyro

from robot_servers.backend import Measured, Reference
from robot_servers.main import RobotServerArgs, run_robot_server
from robot_servers.service import RobotService
from serl_core.robots.messages import StreamCommand

RECORD = struct.Struct("<cdddd")
TARGET, PLACE = b"t", b"p"
PLACE_EVERY_S = 0.005


class Note(NamedTuple):
    """One record."""

    kind: bytes
    at_s: float
    position_m: tuple[float, float, float]


def read_notes(path: Path, since_s: float) -> list[Note]:
    """Return the notes from `since_s` on."""
    data = path.read_bytes()
    whole = data[: len(data) - len(data) % RECORD.size]
    return [Note(kind, at_s, (x, y, z)) for kind, at_s, x, y, z in RECORD.iter_unpack(whole) if at_s >= since_s]


def note_all(file: BinaryIO) -> None:
    """Have every service of this process note what it is told and where its arm is."""
    stream_step, servo = RobotService.stream_step, RobotService._servo
    noted_s = 0.0

    def told(self: RobotService, command: StreamCommand) -> float:
        reply_after_s = stream_step(self, command)  # what is refused is not told
        file.write(RECORD.pack(TARGET, time.monotonic(), *command.pose[:3]))
        return reply_after_s

    def placed(self: RobotService, now_s: float, measured: Measured) -> Reference:
        nonlocal noted_s
        at_s = time.monotonic()
        if at_s - noted_s >= PLACE_EVERY_S:
            noted_s = at_s
            file.write(RECORD.pack(PLACE, at_s, *measured.position_m.tolist()))
        return servo(self, now_s, measured)

    RobotService.stream_step = told  # type: ignore[method-assign]
    RobotService._servo = placed  # type: ignore[method-assign]


def main() -> None:
    """Serve."""
    path = Path(sys.argv.pop(1))
    with path.open("ab", buffering=0) as file:
        note_all(file)
        run_robot_server(tyro.cli(RobotServerArgs))


if __name__ == "__main__":
    main()
