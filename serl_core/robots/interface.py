"""What an environment may ask of an arm: the same calls over HTTP, in process, or on a fake."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from serl_core.robots.messages import Health, ImpedanceParams, RobotState, Vector6, Vector7


class CameraImage(NamedTuple):
    """One picture of a camera at the robot."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB, row 0 at the top; read-only
    stamp_s: float  # the robot's clock when it was taken


@runtime_checkable  # the type checks under pytest ask for it
class Robot(Protocol):
    """One arm under one lease. Every call has a time limit; all may raise `RobotError` or `RobotFault`."""

    def connect(self) -> None:
        """Reach the arm and acquire its lease. Nothing moves."""

    def close(self) -> None:
        """Release the lease. The arm holds compliantly. Safe to call twice."""

    def health(self) -> Health:
        """Return what stands behind the interface; needs no lease."""

    def state(self) -> RobotState:
        """Return the newest state without waiting for motion."""

    def step(self, pose: Vector7, reply_after_s: float, gripper: float | None = None) -> RobotState:
        """Send one target (base frame) and return the state `reply_after_s` later, on the robot's clock."""

    def hold(self) -> None:
        """Stay where the arm is measured now, at once and compliantly; a move of the server ends. Returns at once."""

    def move(self, pose: Vector7, speed_m_s: float = 0.15, speed_rad_s: float = 0.6) -> RobotState:
        """Move smoothly to `pose` on the server; block until there.

        Raises:
            RobotError: the move failed or was cancelled.
        """

    def joint_reset(self) -> RobotState:
        """Move slowly to the rest posture in joint space; block until there."""

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Change gains and clips; they ramp."""

    def set_wrench(self, wrench: Vector6) -> None:
        """Push with a feed-forward wrench, N and Nm on the tool in the tool frame; returns at once.

        It adds to the impedance, and is zero again 0.1 s of robot time after the newest call.
        """

    def set_gripper(self, position: float) -> None:
        """Open (1) or close (0) the gripper; returns at once."""

    def recover(self) -> None:
        """Clear the latched fault, or without one the gripper's; on a person's request only."""

    def stop(self) -> None:
        """Latch a software stop; needs no lease."""

    def resume(self) -> None:
        """Clear a latched stop; the arm holds where it is."""

    def sim_reset(self, seed: int | None = None, pose: Vector7 | None = None) -> RobotState:
        """Put a simulated arm at `pose` at once. Raises RobotError on a real arm."""

    def camera(self, name: str, height: int = 128, width: int = 128) -> CameraImage:
        """Return the newest picture of a camera at the robot, in pixels; needs no lease.

        In lockstep it shows exactly the present state. It waits for one rendering, not for motion.

        Raises:
            RobotError: no such camera (status 404; the message names those there are), a side outside
                16 to 1024 pixels (422), or no picture can be made (503).
        """
