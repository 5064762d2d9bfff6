"""The gripper at an arm's flange, or none: what the driver of every arm does with it."""

from robot_servers.grippers.interface import Gripper
from robot_servers.limits import Refusal


class Flange:
    """Passes on to the gripper; without one it is closed, sound, and refuses to move."""

    def __init__(self, gripper: Gripper | None) -> None:
        """Store."""
        self._gripper = gripper

    def start(self) -> None:
        """Connect the gripper. Raises RobotError when it does not answer."""
        if self._gripper is not None:
            self._gripper.start()

    def stop(self) -> None:
        """Disconnect it; the fingers stay as they are. Safe to call twice."""
        if self._gripper is not None:
            self._gripper.stop()

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open."""
        return 0.0 if self._gripper is None else self._gripper.position()

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move the fingers to `position`, 0 closed .. 1 open, and return at once.

        Raises:
            Refusal: there is no gripper, or it no longer obeys.
        """
        gripper = self._gripper
        if gripper is None:
            raise Refusal(409, "no_gripper", "this arm was started without a gripper (--gripper none)")
        cause = gripper.fault()
        if cause is not None:
            detail = f"the gripper no longer obeys ({cause}); look at it, then /v1/recover with that cause"
            raise Refusal(503, cause, detail, field="gripper", given=position)
        gripper.move(position, speed_m_s, force_n)

    def fault(self) -> str | None:
        """Return why the gripper no longer obeys, or None."""
        return None if self._gripper is None else self._gripper.fault()

    def recover(self) -> None:
        """Clear its fault and connect again, on a client's request only; returns at once."""
        if self._gripper is not None:
            self._gripper.recover()
