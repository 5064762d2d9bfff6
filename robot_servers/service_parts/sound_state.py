"""The driver's newest state that is finite throughout: what a client reads has no number that is none."""

import math

from robot_servers.backend import RobotBackend
from serl_core.errors import RobotError
from serl_core.robots.messages import RobotState


class SoundState:
    """Reads a driver, and remembers."""

    def __init__(self, backend: RobotBackend) -> None:
        """Store."""
        self._backend = backend
        self._newest: RobotState | None = None

    def read(self) -> tuple[RobotState, bool]:
        """Return the newest state that is finite, and whether that is the newest there is.

        Raises:
            RobotError: there has been none.
        """
        state = self._backend.state()
        if _is_finite(state):
            self._newest = state
            return state, True
        if self._newest is None:
            raise RobotError(f"backend {self._backend.name!r} tells a state that is not finite", status=503)
        return self._newest, False


def _is_finite(state: RobotState) -> bool:
    rows = (state.tcp_pose, state.tcp_twist, state.tcp_wrench, state.q, state.dq, *state.jacobian)
    return math.isfinite(state.gripper + sum(map(sum, rows)))
