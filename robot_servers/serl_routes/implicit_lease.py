"""The lease for a client that knows of none: taken with its first command, held while it keeps commanding."""

from collections.abc import Callable
from typing import TypeVar

from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from serl_core.errors import RobotError
from serl_core.robots.messages import LeaseRequest

R = TypeVar("R")


class ImplicitLease:
    """The service's own lease, so that whoever else has it keeps it. Calls come one at a time.

    Args:
        service: the arm.
        owner: the name under which it is taken.
    """

    def __init__(self, service: RobotService, owner: str) -> None:
        self._service = service
        self._owner = owner
        self._epoch = 0  # as in the state: 0 for none

    def command(self, call: Callable[[int], R]) -> R:
        """Carry out a command under the lease, which is taken first where it is free.

        Args:
            call: takes the epoch and does it.

        Raises:
            Refusal: somebody else has the lease (409), or the command is refused: that keeps no lease alive.
            RobotError: the arm's driver cannot do it; neither does that.
        """
        is_new = not self._is_held()
        if is_new:
            # HIL-SERL's clients steer by the newest state, which they read before each command.
            pose_epoch = self._service.state().pose_epoch
            request = LeaseRequest(action="acquire", owner=self._owner, pose_epoch=pose_epoch)
            self._epoch = self._service.lease(request).epoch
        try:
            result = call(self._epoch)
        except (Refusal, RobotError):
            if is_new:
                self.let_go()
            raise
        self.renew()
        return result

    def renew(self) -> None:
        """Be heard of. Raises Refusal 409 when the lease is lost."""
        self._service.lease(LeaseRequest(action="renew", owner=self._owner, epoch=self._epoch))

    def let_go(self) -> None:
        """Give the lease back, if it is held: the arm holds where it is."""
        if self._is_held():
            self._service.lease(LeaseRequest(action="release", owner=self._owner, epoch=self._epoch))
        self._epoch = 0

    def _is_held(self) -> bool:
        return self._epoch != 0 and self._epoch == self._service.state().lease_epoch
