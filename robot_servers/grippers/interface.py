"""What a gripper's driver must offer to a backend. It has a thread of its own: no call waits for the fingers."""

from typing import Protocol


class Gripper(Protocol):
    """One gripper. The constructor only stores; calls come from any thread."""

    def start(self) -> None:
        """Connect, and activate it if it needs that. Nothing moves that does not have to.

        Raises:
            RobotError: it does not answer, with the remedy.
        """

    def stop(self) -> None:
        """Disconnect; the fingers stay as they are. Safe to call twice."""

    def move(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Begin to move to `position`, 0 closed .. 1 open, and return at once; a newer command takes the place.

        A grip that meets an object holds on with `force_n`.
        """

    def position(self) -> float:
        """Return the newest reading, 0 closed .. 1 open, at once."""

    def fault(self) -> str | None:
        """Return why the gripper no longer obeys, such as ``gripper_lost``, or None. The arm itself goes on."""

    def recover(self) -> None:
        """Clear a fault and connect again, on request only; returns at once. The fault stays until that is done."""
