"""Fakes that users run their own parts on: small, first-class, and strict about how they are used."""

import zlib
from enum import Enum

import numpy as np
from jaxtyping import Float64, UInt8

from serl_core.clock import ManualClock
from serl_core.errors import RobotError, RobotFault
from serl_core.geometry import distance, interpolate
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import Health, ImpedanceParams, Mode, RobotState, SimTruth, Vector6, Vector7

STILL = (0.0,) * 6
REST_Q = (0.0, 0.0, 0.0, -1.9, 0.0, 1.9, 0.785)

SQUARE_PER_M = 4.0  # of the picture's side that the square moves, per metre of the tool


class CameraFailure(Enum):
    """How a camera of the fake robot fails."""

    GONE = "gone"  # each picture is refused with status 503
    FROZEN = "frozen"  # the same picture and stamp for ever
    BLACK = "black"


class FakeRobot:
    """A kinematic arm in process: each step that takes time covers `gain` of the way to the target; no dynamics.

    It implements `serl_core.robots.interface.Robot`. A call that moves before `connect`, or after
    `close`, fails.

    Args:
        start: where the tool is at first, and where `sim_reset` without a pose puts it.
        target: success is the tool within 2 mm and 0.05 rad of it.
        is_lockstep: what `health` says of its clock. Either way `clock` moves by what each step asks for.
        moves_short: that many of the next moves end 2 cm too high.
        cameras: names of its cameras.
    """

    def __init__(
        self,
        start: Vector7,
        target: Vector7,
        *,
        gain: float = 0.8,
        is_lockstep: bool = True,
        moves_short: int = 0,
        clock: ManualClock | None = None,
        cameras: tuple[str, ...] = ("wrist", "side_1", "side_2"),
    ) -> None:
        self.clock = clock or ManualClock()
        self.calls: list[str] = []  # the names of all calls but state, health and camera, in order
        self.replies_after_s: list[float] = []  # what each step asked for
        self.impedance = ImpedanceParams()
        self.wrenches: list[Vector6] = []  # of all calls of set_wrench; they move nothing
        self._start, self._target, self._gain = start, target, gain
        self._is_lockstep = is_lockstep
        self._moves_short = moves_short
        self._pose = self._reference = start
        self._gripper = 1.0
        self._fault: str | None = None
        self._mode = Mode.HOLD
        self._is_connected = False
        self._cameras = cameras
        self._camera_faults: dict[str, CameraFailure] = {}
        self._frozen: dict[str, tuple[Vector7, float]] = {}  # the pose and the time it goes on showing

    def fail(self, mode: Mode, cause: str) -> None:
        """Latch a stop or a fault, as a person or a reflex would."""
        self._mode, self._fault = mode, cause

    def fail_camera(self, name: str, failure: CameraFailure | None) -> None:
        """Let a camera fail from now on; None mends it."""
        self._frozen.pop(name, None)
        if failure is None:
            self._camera_faults.pop(name, None)
            return
        if failure is CameraFailure.FROZEN:
            self._frozen[name] = (self._pose, self.clock())
        self._camera_faults[name] = failure

    def connect(self) -> None:
        """Acquire the arm."""
        self.calls.append("connect")
        self._is_connected = True

    def close(self) -> None:
        """Release the arm."""
        self.calls.append("close")
        self._is_connected = False

    def health(self) -> Health:
        """Return what this is."""
        return Health(backend="fake", clock="lockstep" if self._is_lockstep else "real_time", is_simulated=True)

    def state(self) -> RobotState:
        """Return the present state."""
        apart_m, apart_rad = distance(np.array(self._target), np.array(self._pose))
        return RobotState(
            stamp_s=self.clock(),
            tcp_pose=self._pose,
            tcp_twist=STILL,
            tcp_wrench=STILL,
            q=REST_Q,
            dq=(0.0,) * 7,
            jacobian=((0.0,) * 7,) * 6,
            gripper=self._gripper,
            mode=self._mode,
            reference_pose=self._reference,
            fault=self._fault,
            truth=SimTruth(
                is_success=bool(apart_m < 0.002 and apart_rad < 0.05),
                object_pose=self._pose,
                target_pose=self._target,
            ),
        )

    def step(self, pose: Vector7, reply_after_s: float, gripper: float | None = None) -> RobotState:
        """Go part of the way to `pose`; without time for it, set out only."""
        self._begin("step")
        self.replies_after_s.append(reply_after_s)
        self._reference = pose
        gain = self._gain if reply_after_s > 0.0 else 0.0
        self._go(tuple(interpolate(np.array(self._pose), np.array(pose), gain).tolist()), Mode.TRACKING)
        if gripper is not None:
            self._gripper = gripper
        self.clock.advance(reply_after_s)
        return self.state()

    def hold(self) -> None:
        """Stay at once."""
        self._begin("hold")
        self._reference = self._pose
        self._go(self._pose, Mode.HOLD)

    def move(self, pose: Vector7, speed_m_s: float = 0.15, speed_rad_s: float = 0.6) -> RobotState:
        """Go to `pose` at once, or to 2 cm above it when told to fall short."""
        self._begin("move")
        if self._moves_short > 0:
            self._moves_short -= 1
            pose = (*pose[:2], pose[2] + 0.02, *pose[3:])
        self._reference = pose
        self._go(pose, Mode.HOLD)
        return self.state()

    def joint_reset(self) -> RobotState:
        """Go to the start pose."""
        self._begin("joint_reset")
        self._go(self._start, Mode.HOLD)
        return self.state()

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Remember `params`."""
        self._begin("set_impedance")
        self.impedance = params

    def set_wrench(self, wrench: Vector6) -> None:
        """Remember `wrench`."""
        self._begin("set_wrench")
        self.wrenches.append(wrench)

    def set_gripper(self, position: float) -> None:
        """Move the gripper at once."""
        self._begin("set_gripper")
        self._gripper = position

    def recover(self) -> None:
        """Clear a fault."""
        self.calls.append("recover")
        self._mode, self._fault = Mode.HOLD, None

    def stop(self) -> None:
        """Latch a stop."""
        self.calls.append("stop")
        self.fail(Mode.STOPPED, "stop")

    def resume(self) -> None:
        """Clear a stop."""
        self.calls.append("resume")
        self._mode, self._fault = Mode.HOLD, None

    def sim_reset(self, seed: int | None = None, pose: Vector7 | None = None) -> RobotState:
        """Be at `pose` at once."""
        self._begin("sim_reset")
        self._reference = pose or self._start
        self._go(self._reference, Mode.HOLD)
        return self.state()

    def camera(self, name: str, height: int = 128, width: int = 128) -> CameraImage:
        """Return a picture that depends on the camera's name and the tool's pose: a square on a gradient."""
        if name not in self._cameras:
            raise RobotError(
                f"no camera {name!r}; this robot has {', '.join(self._cameras) or 'none'}", status=404, field="name"
            )
        failure = self._camera_faults.get(name)
        if failure is CameraFailure.GONE:
            raise RobotError(f"camera {name!r} gives no picture", status=503)
        pose, stamp_s = self._pose, self.clock()
        if failure is CameraFailure.FROZEN:
            pose, stamp_s = self._frozen[name]
        image = np.zeros((height, width, 3), np.uint8)
        if failure is not CameraFailure.BLACK:
            _paint(image, name, np.array(pose[:3]) - self._target[:3])
        image.flags.writeable = False
        return CameraImage(image, stamp_s)

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if not self._is_connected:
            raise RobotError(f"FakeRobot.{call}: connect() first")
        if self._fault is not None:
            raise RobotFault(f"{call} refused: {self._fault}", status=423)

    def _go(self, pose: Vector7, mode: Mode) -> None:
        self._pose, self._mode = pose, mode


def _paint(image: UInt8[np.ndarray, "h w 3"], name: str, offset_m: Float64[np.ndarray, "3"]) -> None:
    """Draw a gradient in the name's own hue, and a square where the tool is; its brightness is the height."""
    height, width, _ = image.shape
    hue = np.frombuffer(zlib.crc32(name.encode()).to_bytes(4, "big"), np.uint8)[:3] // 4
    image[:] = np.linspace(20, 80, height)[:, None, None] + hue
    row, column = ((0.5 + SQUARE_PER_M * offset_m[:2]).clip(0.1, 0.9) * (height, width)).astype(int)
    half = max(height // 10, 1)
    image[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = int(
        np.clip(150 + 500 * offset_m[2], 120, 255)
    )
