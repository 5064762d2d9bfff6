"""One arm as HIL-SERL's clients know it: no lease to ask for, and sentences for replies.

Everything goes through `RobotService`, so the safety kernel judges these commands as all others.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

import msgspec

from robot_servers.impedance_limits import initial_impedance
from robot_servers.limits import Refusal
from robot_servers.serl_routes.compliance import Compliance, clamp, without_integral, wrench_impedance
from robot_servers.serl_routes.implicit_lease import ImplicitLease
from robot_servers.service import RobotService
from serl_core.errors import RobotError
from serl_core.robots.messages import (
    GripperCommand,
    ImpedanceCommand,
    ImpedanceParams,
    Job,
    JointResetCommand,
    LoadCommand,
    Mode,
    PoseCommand,
    RecoverCommand,
    RobotState,
    Vector6,
    Vector7,
    WrenchCommand,
)

logger = logging.getLogger(__name__)

OWNER = "hil-serl"
SMALLEST_NORM = 0.5  # of a quaternion: these clients interpolate its components, which shortens it
LARGEST_NORM = 1.5
SLOW_SHARE = 1.0 / 3.0  # of the speed, for the slow close
MAX_RECOVERIES = 3  # in RECOVERY_WINDOW_S: these clients ask before every command
RECOVERY_WINDOW_S = 600.0
GRIPPER_BYTES = 255.0
ALWAYS_ACTIVE = "nothing to do: the gripper has been active since the server started"


class Control(Enum):
    """Which of HIL-SERL's controllers would run."""

    IMPEDANCE = "impedance"
    WRENCH = "wrench"
    NONE = "none"


class SerlArm:
    """Commands without a lease: one is held for the client while it keeps commanding, if nobody else has it.

    Calls come one at a time. Every command raises `Refusal` and then has changed nothing.

    Args:
        service: the arm.
        may_clear_errors: `clear_errors` recovers from a latched fault, 3 times in 10 min at most.
        is_255_closed: the meaning of 255 in `move_gripper`; HIL-SERL's own depends on the gripper.
        clock: of these 10 min, in s.
    """

    def __init__(
        self,
        service: RobotService,
        *,
        may_clear_errors: bool = False,
        is_255_closed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._may_clear_errors = may_clear_errors
        self._is_255_closed = is_255_closed
        self._clock = clock
        self._lease = ImplicitLease(service, OWNER)
        self._control = Control.IMPEDANCE
        self._compliance = Compliance()
        self._params = initial_impedance(service.limits)  # to go back to from the wrench mode
        self._recoveries_s: deque[float] = deque(maxlen=MAX_RECOVERIES)

    def state(self) -> RobotState:
        """Return the newest state; needs no lease and takes none."""
        return self._service.state()

    def let_go(self) -> None:
        """Hold where the arm is, for the next who takes the lease."""
        self._lease.let_go()

    # ---- motion

    def pose(self, pose: Vector7) -> str:
        """Follow a target; its quaternion may have another length than 1."""
        self._require(Control.IMPEDANCE)
        target = _with_unit_quaternion(pose)
        self._lease.command(lambda epoch: self._service.pose(PoseCommand(epoch=epoch, pose=target)))
        return "the arm follows the pose"

    def wrench(self, wrench: Vector6) -> str:
        """Push for 0.1 s, each axis clipped to its limit."""
        self._require(Control.WRENCH)
        limits = self._service.limits
        fx, fy, fz = (max(-limits.wrench_force_n, min(value, limits.wrench_force_n)) for value in wrench[:3])
        tx, ty, tz = (max(-limits.wrench_torque_nm, min(value, limits.wrench_torque_nm)) for value in wrench[3:])
        push = (fx, fy, fz, tx, ty, tz)
        self._lease.command(lambda epoch: self._service.wrench(WrenchCommand(epoch=epoch, wrench=push)))
        return "the arm pushes" if push == wrench else f"the arm pushes; clipped to {list(push)}"

    def begin_joint_reset(self) -> Job:
        """Start the slow move to the rest posture; `follow` it until it ends."""
        return self._lease.command(lambda epoch: self._service.joint_reset(JointResetCommand(epoch=epoch)))

    def follow(self, job: Job) -> Job:
        """Return how a job stands; this keeps the lease."""
        self._lease.renew()
        return self._service.job(job.id)

    def finish_joint_reset(self, job: Job) -> str:
        """Return the sentence for a reset that arrived. Raises Refusal 504 or 409 for one that did not."""
        if job.state != "succeeded":
            status = 504 if job.detail == "reset_failed" else 409
            what = "was cancelled" if job.state == "cancelled" else job.state
            raise Refusal(status, "joint_reset", f"the joint reset {what}: {job.detail}")
        if self._control is Control.NONE:
            self._control = Control.IMPEDANCE
        return "the arm is at its rest posture"

    # ---- controllers and their parameters

    def start_impedance(self) -> str:
        """Accept poses."""
        if self._control is Control.WRENCH:
            self.stop_wrench()
        self._control = Control.IMPEDANCE
        return "the impedance controller follows poses"

    def stop_impedance(self) -> str:
        """Hold compliantly where the arm is, and refuse poses until `start_impedance`."""
        if self._control is Control.WRENCH:
            self.stop_wrench()
        self._control = Control.NONE
        self._lease.let_go()
        return "the arm holds; /startimp goes on"

    def start_wrench(self) -> str:
        """Accept wrenches, and yield to them."""
        params = wrench_impedance(self._service.limits)
        self._set_impedance(params)
        self._control = Control.WRENCH
        limits = self._service.limits
        return f"the arm yields to wrenches, up to {limits.wrench_force_n:g} N and {limits.speed_m_s:g} m/s"

    def stop_wrench(self) -> str:
        """Hold where the arm is, with the parameters of before."""
        if self._control is Control.WRENCH:
            self._lease.let_go()  # first: the spring must not pull back to where the wrenches began
            self._params, _ = self._set_compliance(self._compliance, self._params)
            self._control = Control.IMPEDANCE
        return "the impedance controller follows poses"

    def update_param(self, changes: dict[str, float]) -> str:
        """Change some compliance parameters; those outside the envelope become the nearest inside."""
        wanted = msgspec.structs.replace(self._compliance, **changes)
        params, clamped = clamp(wanted, self._service.limits)
        notes = [f"the safety limits changed {', '.join(clamped)}"] if clamped else []
        if "joint1_nullspace_stiffness" in changes:
            notes.append("joint1_nullspace_stiffness has no counterpart here")
        if self._control is Control.WRENCH:
            notes.append("they take effect with /stopwrench")
        else:
            params, note = self._set_compliance(wanted, params)
            notes += note
        self._compliance, self._params = wanted, params
        if notes:
            logger.warning("compliance parameters of a HIL-SERL client: %s", "; ".join(notes))
        return "; ".join(("the compliance parameters are set", *notes))

    def set_load(self, command: LoadCommand) -> str:
        """Tell the arm its payload; its lease epoch is filled in here."""
        self._lease.command(lambda epoch: self._service.load(msgspec.structs.replace(command, epoch=epoch)))
        return "the load is set"

    # ---- the gripper

    def gripper(self, position: float, *, is_slow: bool = False) -> str:
        """Begin to move to `position`, 0 closed .. 1 open, as fast and strong as the limits allow."""
        limits = self._service.limits
        speed = limits.gripper_speed_m_s * (SLOW_SHARE if is_slow else 1.0)
        self._lease.command(
            lambda epoch: self._service.gripper(
                GripperCommand(epoch=epoch, position=position, speed_m_s=speed, force_n=limits.gripper_force_n)
            )
        )
        return f"the gripper goes to {position:g}, 0 closed .. 1 open"

    def move_gripper(self, byte: float) -> str:
        """Begin to move to a position in 0..255; what is beyond is clipped."""
        share = max(0.0, min(byte, GRIPPER_BYTES)) / GRIPPER_BYTES
        return self.gripper(1.0 - share if self._is_255_closed else share)

    # ---- faults

    def clear_errors(self) -> str:
        """Clear a latched fault if that was allowed at the start; on a healthy arm do nothing. Never ends a stop."""
        state = self._service.state()
        if state.mode is Mode.STOPPED:
            raise Refusal(423, "latched", f"the arm was stopped ({state.fault}); look, then /v1/resume")
        if state.mode is not Mode.FAULT or state.fault is None:
            return "there is nothing to clear"
        return self._clear("the arm", state.fault)

    def activate_gripper(self) -> str:
        """Clear the gripper's fault if that was allowed at the start; a sound gripper is active already."""
        cause = self._service.state().gripper_fault
        return ALWAYS_ACTIVE if cause is None else self._clear("the gripper", cause)

    # ---- inside

    def _clear(self, what: str, cause: str) -> str:
        if not self._may_clear_errors:
            raise Refusal(
                423,
                "latched",
                f"{what} is latched by {cause!r}; look, then /v1/recover, or start the server with "
                "--serl-clear-errors to let this route do it",
            )
        now_s = self._clock()
        if len(self._recoveries_s) == MAX_RECOVERIES and now_s - self._recoveries_s[0] < RECOVERY_WINDOW_S:
            raise Refusal(
                423,
                "latched",
                f"{what} is latched by {cause!r}, and {MAX_RECOVERIES} faults were cleared within "
                f"{RECOVERY_WINDOW_S / 60.0:g} min; find out why, then /v1/recover",
            )
        self._lease.command(lambda epoch: self._service.recover(RecoverCommand(epoch=epoch, cause=cause)))
        self._recoveries_s.append(now_s)
        logger.warning("a HIL-SERL client cleared the fault %r", cause)
        return f"cleared {cause!r}"

    def _require(self, control: Control) -> None:
        if self._control is not control:
            remedy = {Control.IMPEDANCE: "/startimp", Control.WRENCH: "/startwrench"}[control]
            detail = f"the {control.value} controller does not run; post {remedy} first"
            raise Refusal(409, "controller", detail)

    def _set_impedance(self, params: ImpedanceParams) -> None:
        self._lease.command(lambda epoch: self._service.impedance(ImpedanceCommand(epoch=epoch, params=params)))

    def _set_compliance(self, wanted: Compliance, params: ImpedanceParams) -> tuple[ImpedanceParams, list[str]]:
        """Set the parameters, without the integral gains where the arm's controller has none."""
        try:
            self._set_impedance(params)
        except (Refusal, RobotError) as error:
            if not (params.translational_ki or params.rotational_ki):
                raise
            params = clamp(without_integral(wanted), self._service.limits).params
            self._set_impedance(params)
            return params, [f"without translational_Ki and rotational_Ki: {error}"]
        return params, []


def _with_unit_quaternion(pose: Vector7) -> Vector7:
    """Return `pose` with a quaternion of norm 1."""
    norm = math.hypot(*pose[3:])
    if not SMALLEST_NORM <= norm <= LARGEST_NORM:
        allowed = f"{SMALLEST_NORM:g} to {LARGEST_NORM:g}"
        detail = f"the quaternion's norm is {norm:.3f}, allowed is {allowed}; send arr as x y z qx qy qz qw"
        raise Refusal(422, "value", detail, field="arr[3]", given=norm, limit=[SMALLEST_NORM, LARGEST_NORM])
    x, y, z, w = (value / norm for value in pose[3:])
    return (*pose[:3], x, y, z, w)
