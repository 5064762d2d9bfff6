"""Franka's own hand, through libfranka.

libfranka's calls wait until the fingers have arrived, so each command runs in a short-lived thread of its own; for a
newer one the hand is told to stop first, and gives the older one up. One more thread reads, and begins the commands.
"""

import logging
import threading
from collections.abc import Callable

import franky

from robot_servers.arm_parts.probe import HAND, knock
from serl_core.errors import RobotError

logger = logging.getLogger(__name__)

READ_S = 0.02  # between readings
CLOSED = 0.1  # below this share of its width the hand grips: elsewhere it moves, with a force of its own
GIVE_UP_S = 0.5  # for a stopped command to end
ANY_WIDTH_M = 1.0  # an object of whatever width counts as gripped


class FrankaHand:
    """The hand at an arm's address: `Gripper`."""

    def __init__(self, robot_ip: str) -> None:
        self._robot_ip = robot_ip
        self._hand: franky.Gripper | None = None
        self._width_m = 0.0
        self._largest_m = 0.0
        self._fault: str | None = None
        self._wants_recovery = threading.Event()
        self._stopping = threading.Event()
        self._newest: Callable[[franky.Gripper], bool] | None = None  # not begun yet
        self._under_way: threading.Thread | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect; nothing moves.

        Raises:
            RobotError: the hand does not answer, or has never been homed.
        """
        self.stop()
        self._connect()
        self._fault = None
        self._stopping.clear()
        self._wants_recovery.clear()
        self._thread = threading.Thread(target=self._run, name="franka-hand", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; the fingers stay as they are. Safe to call twice."""
        self._stopping.set()
        self._wants_recovery.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        hand, self._hand, self._newest = self._hand, None, None
        if hand is not None and self._fault is None:
            try:
                self._end_command(hand)
            except (franky.Exception, RuntimeError) as error:
                logger.warning("the hand was not stopped: %s", error)

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move to `position`, 0 closed .. 1 open, and return at once.

        Near closed the hand grips whatever is between the fingers with `force_n`; elsewhere its own force holds.
        """
        width_m = position * self._largest_m
        if position < CLOSED:
            self._newest = lambda hand: hand.grasp(width_m, speed_m_s, force_n, ANY_WIDTH_M, ANY_WIDTH_M)
        else:
            self._newest = lambda hand: hand.move(width_m, speed_m_s)

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open, at once."""
        return min(max(self._width_m / self._largest_m, 0.0), 1.0) if self._largest_m > 0.0 else 0.0

    def fault(self) -> str | None:
        """Return ``gripper_lost`` when the hand no longer answers, or None."""
        return self._fault

    def recover(self) -> None:
        """Connect again, in the background."""
        if self._fault is not None:
            self._wants_recovery.set()

    def _connect(self) -> None:
        knock(self._robot_ip, HAND)
        try:
            hand = franky.Gripper(self._robot_ip)
            state = hand.state
        except (franky.Exception, RuntimeError) as error:
            raise RobotError(
                f"the hand of the arm at {self._robot_ip} refuses the connection: {error}; check its plug, "
                "and that Desk's end effector is the Franka Hand"
            ) from None
        if state.max_width <= 0.0:
            raise RobotError(f"the hand of the arm at {self._robot_ip} does not know its width; home it in Desk")
        self._hand, self._width_m, self._largest_m = hand, state.width, state.max_width

    def _begin(self, hand: franky.Gripper, command: Callable[[franky.Gripper], bool]) -> None:
        self._end_command(hand)
        self._under_way = threading.Thread(
            target=self._carry_out, args=(hand, command), name="franka-hand-command", daemon=True
        )
        self._under_way.start()

    def _end_command(self, hand: franky.Gripper) -> None:
        """Stop the fingers if they are on their way; a grip that is closed stays."""
        if self._under_way is not None and self._under_way.is_alive():
            hand.stop()
            self._under_way.join(GIVE_UP_S)

    def _carry_out(self, hand: franky.Gripper, command: Callable[[franky.Gripper], bool]) -> None:
        try:
            if not command(hand):
                logger.info("the hand did not reach the width: something is between the fingers, or it was stopped")
        except franky.NetworkException as error:
            if hand is self._hand:  # and not one of before a recovery
                self._lose(error)
        except (franky.Exception, RuntimeError) as error:
            logger.info("the hand gave a command up: %s", error)

    def _lose(self, error: Exception) -> None:
        if self._fault is None and not self._stopping.is_set():
            logger.error("the hand no longer answers: %s", error)
            self._fault = "gripper_lost"

    def _run(self) -> None:
        while not self._stopping.wait(READ_S):
            try:
                self._turn()
            except Exception as error:  # without its thread the hand would look sound, and obey nobody
                logger.exception("the hand's driver failed")
                self._lose(error)

    def _turn(self) -> None:
        if self._fault is None:
            self._tend()
            return
        self._wants_recovery.wait()
        self._wants_recovery.clear()
        if not self._stopping.is_set():
            self._connect_again()

    def _tend(self) -> None:
        """Begin the newest command, and read."""
        hand = self._hand
        command, self._newest = self._newest, None
        assert hand is not None
        try:
            if command is not None:
                self._begin(hand, command)
            self._width_m = hand.state.width
        except (franky.Exception, RuntimeError) as error:
            self._lose(error)

    def _connect_again(self) -> None:
        self._hand, self._newest = None, None
        try:
            self._connect()
            self._fault = None
        except RobotError as error:
            logger.warning("%s", error)
