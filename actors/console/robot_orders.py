"""What the console may tell the robot by itself: stop at any time; resume and recover when there is no actor."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from actors.console.robot_connection import RobotConnection
from serl_core.errors import RobotError
from serl_core.robots.messages import EpochCommand, Health, Lease, LeaseRequest, Message, RecoverCommand, RobotState

logger = logging.getLogger(__name__)

OWNER = "console"
STOPS_AT_ONCE = 4  # one that hangs must not keep the next from being sent
T = TypeVar("T")


class RobotOrders:
    """Each order has its own thread and its own connection: it waits for nothing that hangs.

    Args:
        connect: makes a connection to the robot server.
        health: what the robot server said of itself, such as where its stop has a socket of its own; None before.
    """

    def __init__(self, connect: Callable[[], RobotConnection], health: Callable[[], Health | None]) -> None:
        self._connect = connect
        self._health = health
        self._stops = ThreadPoolExecutor(STOPS_AT_ONCE, "console-stop")
        self._others = ThreadPoolExecutor(1, "console-order")

    def stop(self) -> Future[None]:
        """Latch the robot's software stop. The future raises RobotError when the robot server did not take it."""
        return self._stops.submit(self._on_own_connection, lambda robot: robot.stop(self._health()))

    def resume(self) -> Future[RobotState]:
        """Clear a latched stop, under a lease for this one call: the arm holds where it is."""
        return self._others.submit(self._with_lease, "/v1/resume", lambda epoch: EpochCommand(epoch=epoch))

    def recover(self, cause: str) -> Future[RobotState]:
        """Clear the latched fault `cause`, under a lease for this one call. Another fault than that one stays."""
        return self._others.submit(
            self._with_lease, "/v1/recover", lambda epoch: RecoverCommand(epoch=epoch, cause=cause)
        )

    def close(self) -> None:
        """Take no more orders; those under way are not waited for."""
        self._stops.shutdown(wait=False, cancel_futures=True)
        self._others.shutdown(wait=False, cancel_futures=True)

    def _with_lease(self, path: str, command: Callable[[int], Message]) -> RobotState:
        def order(robot: RobotConnection) -> RobotState:
            pose_epoch = robot.get("/v1/state", RobotState).pose_epoch
            lease = robot.post("/v1/lease", LeaseRequest(action="acquire", owner=OWNER, pose_epoch=pose_epoch), Lease)
            try:
                return robot.post(path, command(lease.epoch), RobotState)
            finally:
                self._release(robot, lease)

        return self._on_own_connection(order)

    def _release(self, robot: RobotConnection, lease: Lease) -> None:
        try:
            robot.post("/v1/lease", LeaseRequest(action="release", owner=OWNER, epoch=lease.epoch), Lease)
        except RobotError as error:
            logger.warning("the lease was not released, it runs out: %s", error)

    def _on_own_connection(self, order: Callable[[RobotConnection], T]) -> T:
        robot = self._connect()
        try:
            return order(robot)
        finally:
            robot.close()
