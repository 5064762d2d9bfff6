"""A driver with faults on demand around any other, and a log of what the arm was told in every control tick.

For tests of what stands above a driver: the kernel, the service, a client, a whole training. In simulation the
log has every torque, so that a test asserts on what the arm did and not on what it was answered.
"""

import logging
import math
import time
from collections import deque
from typing import NamedTuple, Protocol, cast, runtime_checkable

import msgspec
import numpy as np

from robot_servers.backend import (
    REFLEX,
    CameraBackend,
    Floats,
    GripperBackend,
    JointLimits,
    Measured,
    Reference,
    RobotBackend,
    Servo,
    SimBackend,
)
from robot_servers.limits import Refusal
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3, Vector7

logger = logging.getLogger(__name__)

MAX_LOST_PACKETS = 20  # in a row; with more of them a Franka stops itself
KEPT_TICKS = 100_000
FAR_RAD = 1.0  # of a joint reset that never arrives
JOINT_LIMIT, DIED = "joint_limit", "control_loop_died"
TOO_MANY_LOST = "communication_constraints_violation"


class Tick(NamedTuple):
    """One control tick."""

    now_s: float  # the robot's clock
    position_m: tuple[float, ...]  # [3] measured
    set_point: tuple[float, ...]  # [7] the pose that the arm was told
    wrench: tuple[float, ...] | None  # [6] to push with on top, tool frame
    torque_nm: tuple[float, ...] | None  # [7] sent in the tick before; None where the driver does not tell


@runtime_checkable
class TorqueBackend(Protocol):
    """What a backend offers besides that knows its joint torques."""

    def torque_nm(self) -> Floats:
        """Return what was sent to the joints in the newest tick [7]."""


class FaultyBackend:
    """Implements `SimBackend`, `GripperBackend` and `CameraBackend`, as far as `arm` does.

    Durations are of the robot's clock. While ticks are lost or readings frozen, the arm goes on with its last
    set-point; a real one repeats its last torque.

    Attributes:
        log: of the newest ticks; a test may clear it.
        recoveries: how often the driver was told to recover.
        lost_packets: so far.
    """

    def __init__(self, arm: RobotBackend) -> None:
        self.log: deque[Tick] = deque(maxlen=KEPT_TICKS)
        self.recoveries = 0
        self.lost_packets = 0
        self.name = arm.name
        self.is_simulated = arm.is_simulated
        self.is_lockstep = arm.is_lockstep
        self.scene = arm.scene
        self.cameras = arm.cameras if isinstance(arm, CameraBackend) else ()
        self._arm = arm
        self._gripper = arm if isinstance(arm, GripperBackend) else None
        self._torque = arm if isinstance(arm, TorqueBackend) else None
        self._servo: Servo | None = None
        self._fault: str | None = None
        self._frozen_until_s = -math.inf
        self._frozen: RobotState | None = None
        self._lost_left = self._lost_in_a_row = 0
        self._nan_left = 0
        self._is_nan = False
        self._delay_s = 0.0
        self._is_stuck = False
        self._last: Reference | None = None

    # ---- faults

    def reflex(self) -> None:
        """Be in a reflex, as after a collision, until told to recover."""
        self.fail(REFLEX)

    def joint_limit(self) -> None:
        """Be stopped by the arm at a joint's end, until told to recover."""
        self.fail(JOINT_LIMIT)

    def fail(self, cause: str) -> None:
        """Latch any fault of a driver, until told to recover."""
        self._fault = cause

    def state_freeze(self, duration_s: float) -> None:
        """Give no new reading for so long."""
        self._frozen = self._arm.state()
        self._frozen_until_s = self.now_s() + duration_s

    def nan_state(self, readings: int) -> None:
        """Let the next readings have a position that is not a number."""
        self._nan_left = readings

    def packet_loss(self, packets: int) -> None:
        """Lose so many control packets in a row; with more than 20 the arm stops itself."""
        self._lost_left = packets

    def slow(self, duration_s: float) -> None:
        """Take so long for every command to the driver, in real time; 0 ends it."""
        self._delay_s = duration_s

    def die(self) -> None:
        """End the control loop for good."""
        self._frozen = self._arm.state()
        self._fault = DIED

    def stick(self) -> None:
        """Never arrive in a joint reset."""
        self._is_stuck = True

    # ---- the driver

    def start(self, servo: Servo) -> None:
        """Start the arm with the log and the faults in between."""
        self._servo = servo
        self._arm.start(self._tick)

    def stop(self) -> None:
        """Stop the arm."""
        self._arm.stop()

    def joint_limits(self) -> JointLimits:
        """Return the arm's."""
        return self._arm.joint_limits()

    def now_s(self) -> float:
        """Return the arm's clock."""
        return self._arm.now_s()

    def state(self) -> RobotState:
        """Return the arm's newest reading that came through."""
        is_old = self._frozen is not None and (self._fault == DIED or self.now_s() < self._frozen_until_s)
        state = cast(RobotState, self._frozen) if is_old else self._arm.state()
        if self._is_nan:
            state = msgspec.structs.replace(state, tcp_pose=(math.nan, *state.tcp_pose[1:]))
        return state

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Pass on."""
        self._arrive()
        self._arm.set_impedance(params)

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Pass on."""
        self._arrive()
        self._arm.set_gripper(position, speed_m_s, force_n)

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Pass on."""
        self._arrive()
        self._arm.set_load(mass_kg, center_m, inertia_kg_m2)

    def start_joint_reset(self) -> None:
        """Pass on."""
        self._arrive()
        self._arm.start_joint_reset()

    def joint_reset_error_rad(self) -> float | None:
        """Return the arm's; one that is stuck is always far."""
        error_rad = self._arm.joint_reset_error_rad()
        return FAR_RAD if self._is_stuck and error_rad is not None else error_rad

    def cancel_joint_reset(self) -> None:
        """Pass on."""
        self._arm.cancel_joint_reset()

    def recover(self) -> None:
        """Clear the fault, unless the control loop died.

        Raises:
            Refusal: it did.
        """
        self._arrive()
        self.recoveries += 1
        if self._fault == DIED:
            raise Refusal(409, "still_faulted", "the control loop died; start the robot server again")
        self._arm.recover()
        self._fault = None

    def fault(self) -> str | None:
        """Return the fault on demand, or the arm's own."""
        return self._fault or self._arm.fault()

    def gripper_fault(self) -> str | None:
        """Return the gripper's."""
        return None if self._gripper is None else self._gripper.gripper_fault()

    def recover_gripper(self) -> None:
        """Pass on."""
        if self._gripper is not None:
            self._gripper.recover_gripper()

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        """Return the arm's picture."""
        return cast(CameraBackend, self._arm).camera(name, height, width)

    def advance(self, duration_s: float) -> None:
        """Let simulated time pass."""
        cast(SimBackend, self._arm).advance(duration_s)

    def reset(self, seed: int | None, pose: Vector7 | None) -> None:
        """Put the simulated arm elsewhere."""
        cast(SimBackend, self._arm).reset(seed, pose)

    # ---- inside

    def _tick(self, now_s: float, measured: Measured) -> Reference:
        reference = self._reference(now_s, measured)
        self._last = reference
        torque = None if self._torque is None else self._torque.torque_nm().tolist()
        self.log.append(
            Tick(
                now_s,
                tuple(measured.position_m.tolist()),
                (*reference.position_m.tolist(), *reference.quaternion.tolist()),
                None if reference.wrench is None else tuple(reference.wrench.tolist()),
                None if torque is None else tuple(torque),
            )
        )
        return reference

    def _reference(self, now_s: float, measured: Measured) -> Reference:
        """Return what the kernel says, or the last that it said when this tick does not reach it."""
        servo, last = self._servo, self._last
        assert servo is not None, "started by start()"
        is_lost = self._lose_packet()
        if last is not None and (is_lost or self._fault == DIED or now_s < self._frozen_until_s):
            return last
        self._is_nan = self._nan_left > 0
        if self._is_nan:
            self._nan_left -= 1
            measured = measured._replace(position_m=measured.position_m * np.nan)
        return servo(now_s, measured)

    def _lose_packet(self) -> bool:
        if self._lost_left == 0:
            if self._lost_in_a_row > 0:
                logger.warning("%d control packets in a row were lost", self._lost_in_a_row)
            self._lost_in_a_row = 0
            return False
        self._lost_left -= 1
        self._lost_in_a_row += 1
        self.lost_packets += 1
        if self._lost_in_a_row > MAX_LOST_PACKETS:
            self._fault = self._fault or TOO_MANY_LOST
        return True

    def _arrive(self) -> None:
        """Let a command take its time."""
        if self._delay_s > 0.0:
            time.sleep(self._delay_s)
