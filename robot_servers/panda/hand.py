"""Franka's hand through panda-python: `robot_servers.grippers.interface.Gripper`.

A command of libfranka lasts until the fingers have stopped, so one thread sends commands and another one reads 20
times a second, and ends a command that a newer one replaces.
"""

import logging
import threading
from typing import NamedTuple

from panda_py import libfranka

from robot_servers.arm_parts.probe import HAND, knock
from serl_core.errors import RobotError

logger = logging.getLogger(__name__)

PERIOD_S = 0.05
WIDTH_TOLERANCE_M = 0.001  # a target nearer than this needs no motion
JOIN_S = 10.0  # libfranka gives up on a silent hand after 1 s
LOST = "gripper_lost"


class _Command(NamedTuple):
    width_m: float
    speed_m_s: float
    force_n: float


class PandaHand:
    """Franka's own hand."""

    def __init__(self, robot_ip: str) -> None:
        """Store the address of the control box that the hand is plugged into."""
        self._robot_ip = robot_ip
        self._hand: libfranka.Gripper | None = None
        self._max_width_m = 0.08
        self._width_m = 0.0
        self._fault: str | None = None
        self._wanted: _Command | None = None  # the newest, not begun yet
        self._busy: _Command | None = None  # the one that runs
        self._ended: _Command | None = None  # the one that `stop` was meant for
        self._must_connect = False
        self._must_home = False
        self._wake = threading.Condition()  # guards all of the above
        self._is_stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Connect. The first command to a hand that was not homed since it got power closes and opens it once before.

        Raises:
            RobotError: it does not answer, with the remedy.
        """
        self.stop()
        try:
            hand = self._connect()
            state = hand.read_once()
        except RuntimeError as error:
            raise RobotError(
                f"hand at {self._robot_ip}: {error}; check that Desk lists it as end effector, or pass --gripper none"
            ) from None
        self._hand, self._fault, self._wanted, self._is_stopping = hand, None, None, False
        self._must_home = state.max_width <= 0.0
        self._take(state)
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._command, "panda-hand-commands"), (self._watch, "panda-hand-readings"))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Disconnect; the fingers stay as they are. Safe to call twice."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._threads, self._hand = [], None

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move to `position`, 0 closed .. 1 open, and return at once; a newer command takes the place.

        Closing grips: what is in the way is held with `force_n`. While there is a fault nothing happens.
        """
        with self._wake:
            if self._fault is None:
                self._wanted = _Command(position * self._max_width_m, speed_m_s, force_n)
                self._wake.notify_all()

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open, at once."""
        return min(max(self._width_m / self._max_width_m, 0.0), 1.0)

    def fault(self) -> str | None:
        """Return ``gripper_lost`` when it no longer answers, or None."""
        return self._fault

    def recover(self) -> None:
        """Connect again, on request only; returns at once. What was commanded before is forgotten."""
        with self._wake:
            self._must_connect, self._wanted = True, None
            self._wake.notify_all()

    # ---- the thread that sends

    def _command(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping or self._wanted is not None)
                if self._is_stopping or self._wanted is None:
                    return
                command, self._busy, self._wanted, hand = self._wanted, self._wanted, None, self._hand
            try:
                if hand is not None:
                    self._execute(hand, command)
            except RuntimeError as error:  # aborted by a newer one, refused, or lost: the other thread finds out
                logger.info("hand: %s ended: %s", command, error)
                self._retry(command)
            except Exception:  # without its thread the hand would look sound, and obey nobody
                logger.exception("hand at %s: its driver failed", self._robot_ip)
                self._fault = LOST
            finally:
                hand = None  # a hand serves one connection: nobody may keep the old one when it is connected again
                with self._wake:
                    self._busy = None
                    self._wake.notify_all()

    def _retry(self, command: _Command) -> None:
        """Begin anew, once, what was aborted by the stop that was meant for the command before."""
        with self._wake:
            if self._ended not in (None, command) and self._wanted is None:
                self._ended, self._wanted = None, command

    def _execute(self, hand: libfranka.Gripper, command: _Command) -> None:
        width_m, speed_m_s, force_n = command
        if self._must_home:
            self._must_home = not hand.homing()
        if width_m < self._width_m - WIDTH_TOLERANCE_M:
            # Whatever width the fingers stop at counts as a grip, so that the force is kept up.
            hand.grasp(width_m, speed_m_s, force_n, self._max_width_m, self._max_width_m)
        else:
            hand.move(width_m, speed_m_s)

    # ---- the thread that reads

    def _watch(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_stopping and self._busy is None, PERIOD_S)
                is_stopping, must_connect = self._is_stopping, self._must_connect
                must_end = self._busy is not None and (is_stopping or self._wanted is not None)
                if must_end:
                    self._ended = self._busy
                hand, self._must_connect = self._hand, False
            if is_stopping and (not must_end or self._fault is not None):
                return
            try:
                if must_connect and not is_stopping:
                    hand = None
                    hand = self._reconnect()
                if hand is not None and self._fault is None:
                    if must_end:
                        hand.stop()
                    self._take(hand.read_once())
            except (RuntimeError, RobotError) as error:
                logger.error("hand at %s is lost: %s", self._robot_ip, error)
                self._fault = LOST
            except Exception:  # unforeseen: the thread goes on, and the fault is told
                logger.exception("hand at %s: its driver failed", self._robot_ip)
                self._fault = LOST

    def _connect(self) -> libfranka.Gripper:
        knock(self._robot_ip, HAND)
        return libfranka.Gripper(self._robot_ip)

    def _reconnect(self) -> libfranka.Gripper:
        with self._wake:
            self._hand = None  # its connection ends
        hand = self._connect()
        with self._wake:
            self._hand, self._fault = hand, None
        return hand

    def _take(self, state: libfranka.GripperState) -> None:
        if state.max_width > 0.0:
            self._max_width_m = state.max_width
        self._width_m = state.width
