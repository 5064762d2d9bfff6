"""An arm in this process: `serl_core.robots.interface.Robot` straight on the service, without a socket."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from serl_core.errors import RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import (
    EpochCommand,
    GripperCommand,
    Health,
    ImpedanceCommand,
    ImpedanceParams,
    Job,
    JointResetCommand,
    LeaseRequest,
    Mode,
    MoveCommand,
    RecoverCommand,
    RobotState,
    SimAdvanceCommand,
    SimResetCommand,
    StreamCommand,
    Vector6,
    Vector7,
    WrenchCommand,
)
from serl_core.robots.problems import error_of

WAIT_S = 0.05  # between looks at a move under way
R = TypeVar("R")


class LocalRobot:
    """The arm behind `service`, which its owner starts and closes.

    The lease has no time-out: a holder in the same process cannot go silent without the server.
    """

    def __init__(self, service: RobotService, *, owner: str = "local", sleep: Callable[[float], None] = time.sleep):
        self._service = service
        self._owner = owner
        self._sleep = sleep
        self._epoch: int | None = None
        self._sequence = 0

    def connect(self) -> None:
        """Acquire the lease."""
        with _errors():
            request = LeaseRequest(action="acquire", owner=self._owner, pose_epoch=self._service.state().pose_epoch)
            self._epoch = self._service.lease(request, math.inf).epoch
        self._sequence = 0

    def close(self) -> None:
        """Release the lease. Safe to call twice."""
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            with _errors():
                self._service.lease(LeaseRequest(action="release", owner=self._owner, epoch=epoch))

    def health(self) -> Health:
        """Return what stands behind the interface."""
        return self._service.health()

    def state(self) -> RobotState:
        """Return the newest state."""
        return self._service.state()

    def step(self, pose: Vector7, reply_after_s: float, gripper: float | None = None) -> RobotState:
        """Send one target and return the state `reply_after_s` later, on the robot's clock."""
        self._sequence += 1
        command = StreamCommand(
            epoch=self._lease(), sequence=self._sequence, pose=pose, reply_after_s=reply_after_s, gripper=gripper
        )
        with _errors():
            wait_s = self._service.stream_step(command)
        if wait_s > 0.0:
            self._sleep(wait_s)
        return self._service.state()

    def hold(self) -> None:
        """Stay where the arm is measured now, at once."""
        self._call(self._service.hold, EpochCommand(epoch=self._lease()))

    def move(self, pose: Vector7, speed_m_s: float = 0.15, speed_rad_s: float = 0.6) -> RobotState:
        """Move smoothly to `pose`; block until there."""
        command = MoveCommand(epoch=self._lease(), pose=pose, speed_m_s=speed_m_s, speed_rad_s=speed_rad_s)
        return self._finish(self._call(self._service.move, command))

    def joint_reset(self) -> RobotState:
        """Move to the rest posture in joint space; block until there."""
        return self._finish(self._call(self._service.joint_reset, JointResetCommand(epoch=self._lease())))

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Change gains and clips."""
        self._call(self._service.impedance, ImpedanceCommand(epoch=self._lease(), params=params))

    def set_wrench(self, wrench: Vector6) -> None:
        """Push with a feed-forward wrench for a moment."""
        self._call(self._service.wrench, WrenchCommand(epoch=self._lease(), wrench=wrench))

    def set_gripper(self, position: float) -> None:
        """Open or close the gripper."""
        self._call(self._service.gripper, GripperCommand(epoch=self._lease(), position=position))

    def recover(self) -> None:
        """Clear the latched fault; without one, the gripper's; without that, as after a stop, nothing happens."""
        state = self._service.state()
        cause = (
            state.fault if state.mode is Mode.FAULT else state.gripper_fault if state.mode is not Mode.STOPPED else None
        )
        if cause is not None:
            self._call(self._service.recover, RecoverCommand(epoch=self._lease(), cause=cause))

    def stop(self) -> None:
        """Latch a software stop."""
        self._service.stop()

    def resume(self) -> None:
        """Clear a latched stop."""
        self._call(self._service.resume, EpochCommand(epoch=self._lease()))

    def sim_reset(self, seed: int | None = None, pose: Vector7 | None = None) -> RobotState:
        """Put the simulated arm at `pose` at once."""
        return self._call(self._service.sim_reset, SimResetCommand(epoch=self._lease(), seed=seed, pose=pose))

    def camera(self, name: str, height: int = 128, width: int = 128) -> CameraImage:
        """Return the newest picture of a camera at the robot."""
        with _errors():
            return self._service.camera(name, height, width)

    def _finish(self, job: Job) -> RobotState:
        """Let time pass until `job` ends, and return the state then."""
        is_lockstep = self._service.backend.is_lockstep
        while job.state == "running":
            if is_lockstep:
                self._call(self._service.sim_advance, SimAdvanceCommand(epoch=self._lease(), duration_s=WAIT_S))
            else:
                self._sleep(WAIT_S)
            job = self._call(self._service.job, job.id)
        if job.state != "succeeded":
            raise RobotError(f"the {job.kind.replace('_', ' ')} {job.state}: {job.detail}", cause=job.cause)
        return self._service.state()

    def _lease(self) -> int:
        if self._epoch is None:
            raise RobotError("connect() first: the arm takes commands from its lease holder only")
        return self._epoch

    def _call(self, call: Callable[..., R], argument: object) -> R:
        with _errors():
            return call(argument)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise error_of(refusal.problem()) from None
