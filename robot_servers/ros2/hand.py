"""Franka's hand through franka_ros2's gripper node: `robot_servers.grippers.interface.Gripper`."""

import logging
import threading
from typing import Any, NamedTuple

from robot_servers.ros2 import names
from robot_servers.ros2.io import RosIo

logger = logging.getLogger(__name__)

MAX_WIDTH_M = 0.08
WIDTH_TOLERANCE_M = 0.001


class _Command(NamedTuple):
    width_m: float
    speed_m_s: float
    force_n: float


class RosHand:
    """The hand whose node runs beside the arm's. The newest command ends the one before."""

    def __init__(self, io: RosIo) -> None:
        """Store."""
        self._io = io
        self._width_m = 0.0
        self._is_heard = False
        self._lock = threading.Lock()  # guards the two below
        self._wanted: _Command | None = None
        self._is_busy = False

    def start(self) -> None:
        """Listen to the hand's joints; the node was started by the backend."""
        self._wanted, self._is_busy = None, False
        self._io.subscribe(names.HAND_JOINTS, self._take)

    def stop(self) -> None:
        """Forget what is waiting; the fingers stay as they are."""
        with self._lock:
            self._wanted = None

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move to `position`, 0 closed .. 1 open, and return at once; a newer command takes the place.

        Closing grips: what is in the way is held with `force_n`.
        """
        with self._lock:
            self._wanted = _Command(position * MAX_WIDTH_M, speed_m_s, force_n)
            was_busy, self._is_busy = self._is_busy, True
        if was_busy:
            self._io.call(names.HAND_STOP, {}, lambda _: None)  # its end begins the newest
        else:
            self._begin()

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open, at once."""
        return min(max(self._width_m / MAX_WIDTH_M, 0.0), 1.0)

    def fault(self) -> str | None:
        """Return ``gripper_lost`` while the hand's node has never been heard of, or None."""
        return None if self._is_heard else "gripper_lost"

    def recover(self) -> None:
        """Do nothing: the hand's node keeps the connection."""

    def _take(self, message: Any) -> None:
        self._width_m, self._is_heard = float(sum(message.position)), True

    def _begin(self) -> None:
        with self._lock:
            command, self._wanted = self._wanted, None
            if command is None:
                self._is_busy = False
        if command is None:
            return
        width_m, speed_m_s, force_n = command
        if width_m < self._width_m - WIDTH_TOLERANCE_M:
            # Whatever width the fingers stop at counts as a grip, so that the force is kept up.
            epsilon = {"inner": MAX_WIDTH_M, "outer": MAX_WIDTH_M}
            fields = {"width": width_m, "speed": speed_m_s, "force": force_n, "epsilon": epsilon}
            self._io.send_goal(names.HAND_GRASP, fields, self._end)
        else:
            self._io.send_goal(names.HAND_MOVE, {"width": width_m, "speed": speed_m_s}, self._end)

    def _end(self, result: Any | None) -> None:
        if result is None:
            logger.info("hand: the command was ended, refused or failed")
        self._begin()
