"""A point mass instead of an arm, and a server in this process: what the tests of service, API and clients run on.

The point mass follows its reference with a first-order lag, keeps every reference it was given, and
fails on request.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from robot_servers.backend import Floats, JointLimits, Measured, Servo, jacobian_rows
from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from robot_servers.web import create_server
from serl_core.robots.messages import ImpedanceParams, Mode, RobotState, SimTruth, Vector3, Vector7
from serl_core.serving import bind, url_of

TICK_S = 0.001
LAG_S = 0.02
HOME: Vector7 = (0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)
STILL = (0.0,) * 6
JOINT_RESET_S = 0.5
JOINT_LIMITS = JointLimits(low_rad=(-3.0,) * 7, high_rad=(3.0,) * 7, speed_rad_s=(2.0,) * 7)


class PointMassBackend:
    """Implements `robot_servers.backend.SimBackend`, in lockstep or on a thread in real time.

    Its joints stand still wherever it goes, unless a test sets `q`, `dq` and `jacobian`.
    """

    name = "point_mass"
    is_simulated = True
    scene: str | None = "free_space"

    def __init__(self, *, is_lockstep: bool = True) -> None:
        self.is_lockstep = is_lockstep
        self.references: list[tuple[float, ...]] = []  # (time, pose [7], feed-forward wrench [6]) of every tick
        self.calls: list[tuple[object, ...]] = []
        self.wrench = STILL
        self.q: Floats = np.zeros(7)
        self.dq: Floats = np.zeros(7)
        self.jacobian: Floats = np.zeros((6, 7))
        self.follows = True  # False: blocked by an obstacle
        self.gripper_cause: str | None = None  # why the gripper does not obey
        self._fault: str | None = None
        self._position = np.array(HOME[:3])
        self._quaternion = np.array(HOME[3:])
        self._reference = HOME
        self._gripper = 1.0
        self._ticks = 0
        self._reset_until_s: float | None = None
        self._servo: Servo | None = None
        self._thread: threading.Thread | None = None
        self._is_stopping = threading.Event()

    def start(self, servo: Servo) -> None:
        """Start ticking."""
        self._servo = servo
        if not self.is_lockstep:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopping.set()
        if self._thread is not None:
            self._thread.join()

    def joint_limits(self) -> JointLimits:
        """Return limits that are the same for all joints."""
        return JOINT_LIMITS

    def now_s(self) -> float:
        """Return the ticks so far, in s."""
        return self._ticks * TICK_S

    def state(self) -> RobotState:
        """Return the pose; all else is at rest."""
        x, y, z = self._position.tolist()
        qx, qy, qz, qw = self._quaternion.tolist()
        pose = (x, y, z, qx, qy, qz, qw)
        return RobotState(
            stamp_s=self.now_s(),
            tcp_pose=pose,
            tcp_twist=STILL,
            tcp_wrench=self.wrench,
            q=tuple(self.q.tolist()),
            dq=tuple(self.dq.tolist()),
            jacobian=jacobian_rows(self.jacobian),
            gripper=self._gripper,
            mode=Mode.HOLD,
            reference_pose=self._reference,
            truth=SimTruth(is_success=False, object_pose=pose, target_pose=HOME),
        )

    def place(self, position_m: Vector3) -> None:
        """Be pushed to a position, as by a hand."""
        self._position = np.array(position_m)

    def fail(self, cause: str | None) -> None:
        """Latch a fault in the driver."""
        self._fault = cause

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Remember the call."""
        self.calls.append(("set_impedance", params))

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Be there at once, or refuse."""
        if self.gripper_cause is not None:
            raise Refusal(503, self.gripper_cause, "the gripper no longer obeys")
        self.calls.append(("set_gripper", position, speed_m_s, force_n))
        self._gripper = position

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Remember the call."""
        self.calls.append(("set_load", mass_kg, center_m, inertia_kg_m2))

    def start_joint_reset(self) -> None:
        """Begin to drift upwards for a while."""
        self.calls.append(("start_joint_reset",))
        self._reset_until_s = self.now_s() + JOINT_RESET_S

    def joint_reset_error_rad(self) -> float | None:
        """Return the time that is left, as if it were an angle; 0 from then on, until cancelled."""
        return None if self._reset_until_s is None else max(0.0, self._reset_until_s - self.now_s())

    def cancel_joint_reset(self) -> None:
        """End the drift."""
        self.calls.append(("cancel_joint_reset",))
        self._reset_until_s = None

    def recover(self) -> None:
        """Clear the fault."""
        self.calls.append(("recover",))
        self._fault = None

    def gripper_fault(self) -> str | None:
        """Return what a test has set."""
        return self.gripper_cause

    def recover_gripper(self) -> None:
        """Clear it."""
        self.calls.append(("recover_gripper",))
        self.gripper_cause = None

    def fault(self) -> str | None:
        """Return the latched fault."""
        return self._fault

    def advance(self, duration_s: float) -> None:
        """Run the ticks of `duration_s`."""
        for _ in range(round(duration_s / TICK_S)):
            self._tick()

    def reset(self, seed: int | None, pose: Vector7 | None) -> None:
        """Be at `pose`, at rest."""
        self.calls.append(("reset", seed, pose))
        pose = pose or HOME
        self._position, self._quaternion = np.array(pose[:3]), np.array(pose[3:])

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._is_stopping.is_set():
            self._tick()
            next_s += TICK_S
            time.sleep(max(0.0, next_s - time.monotonic()))

    def _tick(self) -> None:
        assert self._servo is not None, "advance before start"
        self._ticks += 1
        measured = Measured(self._position, self._quaternion, self.q, self.dq, self.jacobian)
        position, quaternion, wrench = self._servo(self.now_s(), measured)
        x, y, z = position.tolist()
        qx, qy, qz, qw = quaternion.tolist()
        self._reference = (x, y, z, qx, qy, qz, qw)
        self.references.append((self.now_s(), *self._reference, *(STILL if wrench is None else wrench.tolist())))
        if self._reset_until_s is not None:
            self._position = self._position + np.array([0.0, 0.0, 0.05 * TICK_S])
        elif self.follows:
            self._follow(position, quaternion)

    def _follow(self, position: Floats, quaternion: Floats) -> None:
        share = TICK_S / LAG_S
        self._position = self._position + share * (position - self._position)
        if float(quaternion @ self._quaternion) < 0.0:
            quaternion = -quaternion
        mixed = self._quaternion + share * (quaternion - self._quaternion)
        self._quaternion = mixed / np.linalg.norm(mixed)


@contextmanager
def serving(service: RobotService, token: str) -> Iterator[str]:
    """Serve `service` from a thread on a free port; yield its URL."""
    with bind("127.0.0.1", 0) as listener:
        server = create_server(service, token, listener)
        service.start()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()
            service.close()
