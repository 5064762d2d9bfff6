"""One arm as a service: the safety kernel above a backend, in the words of the messages.

The control loop calls the servo in every tick; clients call the rest. Each call takes and returns
messages and raises `Refusal`, after which nothing has changed. In lockstep time moves only inside
`stream_step` and `sim_advance`: whoever waits for a move or a joint reset advances it.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from robot_servers.audit import AuditLog
from robot_servers.backend import Measured, Reference, RobotBackend, measured_in
from robot_servers.kernel import SafetyKernel
from robot_servers.kernel_parts.latches import RESET_FAILED
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service_parts.automatic_recovery import AutomaticRecovery
from robot_servers.service_parts.counters import Counts
from robot_servers.service_parts.gate import Gate
from robot_servers.service_parts.joint_reset import JointReset
from robot_servers.service_parts.parameters import Parameters
from robot_servers.service_parts.pictures import Pictures
from robot_servers.service_parts.recovery import Recovery
from robot_servers.service_parts.simulation import Simulation
from robot_servers.service_parts.sound_state import SoundState
from robot_servers.service_parts.targets import Targets
from robot_servers.stop_memory import StopMemory
from serl_core.errors import RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import (
    CameraNames,
    EpochCommand,
    GripperCommand,
    Health,
    ImpedanceCommand,
    Job,
    JointResetCommand,
    Lease,
    LeaseRequest,
    LoadCommand,
    MoveCommand,
    PoseCommand,
    RecoverCommand,
    RobotState,
    SimAdvanceCommand,
    SimResetCommand,
    SimTruth,
    StreamCommand,
    WrenchCommand,
)

FIRST_READING_S = 1.0


class RobotService:
    """Composes kernel and backend. Commands are serialised; `stop` waits for none of them.

    Args:
        backend: the arm; `start` starts it.
        limits: of the safety kernel; the arm starts with gains that fit them.
        audit_log: JSON lines are appended there.
        liveness: the clock of the lease and of the backend's signs of life, in s.
        first_epoch: leases count up from here.
        stop_memory: of a supervisor, so that a stop outlives this server.

    Raises:
        ConfigError: the limits allow no gains to start with.
    """

    def __init__(
        self,
        backend: RobotBackend,
        limits: SafetyLimits | None = None,
        *,
        audit_log: Path | None = None,
        liveness: Callable[[], float] = time.monotonic,
        first_epoch: int = 0,
        stop_memory: StopMemory | None = None,
    ) -> None:
        self.backend = backend
        self.limits = limits or SafetyLimits()
        self._audit = AuditLog(audit_log, lambda: self._kernel.leases.epoch)
        self._stop_memory = stop_memory or StopMemory()
        self._watchdog_fired = 0
        self._kernel = SafetyKernel(self.limits, backend.joint_limits(), self._note, first_epoch)
        self._gate = Gate(backend, self._kernel, self.limits, liveness)
        self._parameters = Parameters(backend, self._kernel, self.limits, self._gate, self._audit)
        self._targets = Targets(backend, self._kernel, self.limits, self._gate, self._parameters)
        self._joint_reset = JointReset(backend, self._kernel, self._gate)
        self._simulation = Simulation(backend, self._kernel, self.limits, self._gate)
        self._recovery = Recovery(backend, self._kernel, self._gate, self._parameters)
        self._automatic = AutomaticRecovery(
            self._kernel, self._recovery, self.limits.automatic_recoveries, liveness, self._audit
        )
        self._sound_state = SoundState(backend)
        self._pictures = Pictures(backend)

    def start(self) -> None:
        """Start the backend; the arm holds.

        Raises:
            SerlError: the arm cannot be controlled, or gives no sound reading within 1 s; the backend is stopped again.
        """
        self._gate.ticked(self._gate.liveness())
        self._audit.start()
        if self._stop_memory.is_stopped:
            self.latch_stop("stop_before_restart")
        try:
            self.backend.start(self._servo)
            self._parameters.start()
            self._settle()
            self._wait_until_measured()
        except BaseException:  # also Ctrl-C: nothing stays half started; raised again
            self.backend.stop()
            self._audit.close()
            raise
        if self.limits.automatic_recoveries > 0 and not self.backend.is_lockstep:
            self._automatic.start()

    def close(self) -> None:
        """Hold, and stop the backend. Safe to call twice."""
        self._automatic.stop()
        with self._gate.lock:
            self._kernel.hold()
        self.backend.stop()
        self._audit.close()

    # ---- reading

    def health(self) -> Health:
        """Return what stands behind the service."""
        return Health(
            backend=self.backend.name,
            clock="lockstep" if self.backend.is_lockstep else "real_time",
            is_simulated=self.backend.is_simulated,
            scene=self.backend.scene,
        )

    def state(self) -> RobotState:
        """Return the newest state, with what the kernel knows."""
        with self._gate.lock:  # also where no control tick does it, as when the arm is gone
            self._kernel.expire_lease(self._gate.liveness())
        reading, is_sound = self._sound_state.read()
        is_stale = self._gate.is_stale() or not is_sound
        kernel = self._kernel
        return msgspec.structs.replace(
            reading,
            mode=kernel.mode,
            fault=kernel.fault,
            gripper_fault=self._parameters.gripper_fault(),
            lease_epoch=kernel.leases.epoch,
            pose_epoch=kernel.leases.pose_epoch,
            is_stale=is_stale,
            unsafe_thresholds=self.limits.unsafe_thresholds,
        )

    def counts(self) -> Counts:
        """Return what was counted since the start, and how things stand."""
        kernel, counter = self._kernel, self._gate.counter
        return Counts(
            accepted=counter.accepted,
            rejected=counter.rejected(),
            watchdog_fired=self._watchdog_fired,
            automatic_recoveries=self._automatic.count,
            dropped_readings=kernel.dropped_readings,
            lease_epoch=kernel.leases.epoch,
            latch_cause=kernel.fault,
            state_age_s=self._gate.state_age_s(),
        )

    def truth(self) -> SimTruth:
        """Return what only the simulator knows."""
        return self._simulation.truth()

    def job(self, number: int) -> Job:
        """Return the newest move or joint reset; older ones are forgotten. One that never arrived is a 504."""
        job = self._kernel.job
        if job is None or job.id != number:
            raise Refusal(404, "no_job", f"no job {number}; only the newest is kept", field="id", given=number)
        if job.detail == RESET_FAILED:
            limit_s = self.limits.joint_reset_timeout_s
            detail = f"the joint reset did not arrive within {limit_s:g} s; look at the arm, then /v1/recover"
            raise Refusal(504, RESET_FAILED, detail, limit=limit_s)
        return job

    def cameras(self) -> CameraNames:
        """Return the names of the cameras at the robot."""
        return self._pictures.names()

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        """Return the newest picture of a camera; takes none of the locks that commands wait for."""
        return self._pictures.newest(name, height, width)

    # ---- the lease, the stop and faults

    def lease(self, request: LeaseRequest, timeout_s: float | None = None) -> Lease:
        """Acquire, renew or release the lease.

        Args:
            request: what, and by whom.
            timeout_s: for a holder in this process, which cannot go silent without it.
        """
        with self._gate.lock:
            if request.action == "acquire":
                lease = self._kernel.acquire(request.owner, self._gate.liveness(), timeout_s, request.pose_epoch)
                self._parameters.forget_gripper()
            elif request.epoch is None:
                raise Refusal(422, "value", f"{request.action!r} needs the epoch of the lease", field="epoch")
            elif request.action == "renew":
                lease = self._kernel.leases.renew(request.epoch, self._gate.liveness())
            elif request.action == "release":
                lease = self._kernel.release(request.epoch)
            else:
                allowed = ["acquire", "renew", "release"]
                detail = f"action must be one of {', '.join(allowed)}"
                raise Refusal(422, "value", detail, field="action", given=request.action, limit=allowed)
        return lease

    def stop(self, cause: str = "stop") -> RobotState:
        """Latch a software stop, at once; needs no lease."""
        self.latch_stop(cause)
        return self.state()

    def latch_stop(self, cause: str) -> None:
        """Latch a software stop without any lock: from any thread, or from a signal handler."""
        self._kernel.stop(cause)
        self._stop_memory.note(lambda: self._kernel.is_stopped)
        self._audit.note("stop", cause)

    def resume(self, command: EpochCommand) -> RobotState:
        """Clear a latched stop; the arm holds where it is."""
        with self._gate.lock:
            self._kernel.resume(command.epoch)
            self._stop_memory.note(lambda: self._kernel.is_stopped)
        return self._settled_state()

    def recover(self, command: RecoverCommand) -> RobotState:
        """Clear the latched fault that the client names; the arm holds where it is. Without one, the gripper's."""
        self._recovery.by_request(command)
        return self._settled_state()

    def note(self, event: str, detail: str) -> None:
        """Put a line into the audit log. Never blocks; safe from any thread."""
        self._audit.note(event, detail)

    # ---- motion

    def stream_step(self, command: StreamCommand) -> float:
        """Follow a new target; in lockstep advance by `reply_after_s`.

        Returns:
            Seconds after which to reply with `state()`; 0 in lockstep.
        """
        return self._targets.stream_step(command)

    def pose(self, command: PoseCommand) -> RobotState:
        """Follow a new target; return at once."""
        self._targets.pose(command)
        return self.state()

    def hold(self, command: EpochCommand) -> RobotState:
        """Stay where the arm is measured now, at once; a move ends. Waits for no other command, and is never old."""
        with self._gate.lock:
            self._kernel.check_free(command.epoch)
            self._kernel.hold()
        return self._settled_state()

    def wrench(self, command: WrenchCommand) -> RobotState:
        """Push with a feed-forward wrench for a moment; return at once."""
        self._targets.wrench(command)
        return self.state()

    def move(self, command: MoveCommand) -> Job:
        """Start a minimum-jerk move."""
        with self._gate.turn():
            self._gate.require_fresh()
            with self._gate.lock:
                return self._kernel.move(command)

    def joint_reset(self, command: JointResetCommand) -> Job:
        """Start the slow joint-space move to the rest posture."""
        with self._gate.turn():
            return self._joint_reset.start(command)

    # ---- parameters

    def impedance(self, command: ImpedanceCommand) -> RobotState:
        """Change gains and clips; they ramp."""
        with self._gate.turn():
            self._parameters.impedance(command)
        return self.state()

    def gripper(self, command: GripperCommand) -> RobotState:
        """Start a gripper motion."""
        with self._gate.turn():
            self._parameters.gripper(command)
        return self.state()

    def load(self, command: LoadCommand) -> RobotState:
        """Tell the arm its payload, while it holds."""
        with self._gate.turn():
            self._parameters.load(command)
        return self.state()

    # ---- simulation

    def sim_advance(self, command: SimAdvanceCommand) -> RobotState:
        """Move a lockstep simulation on."""
        with self._gate.turn():
            self._simulation.advance(command)
        return self.state()

    def sim_reset(self, command: SimResetCommand) -> RobotState:
        """Put the simulated arm at a pose at once; it holds there. Ends the fault of an arm outside the box."""
        with self._gate.turn():
            self._simulation.reset(command)
            self._parameters.forget_gripper()
        return self._settled_state()

    # ---- inside

    def _wait_until_measured(self) -> None:
        give_up_s = time.monotonic() + FIRST_READING_S
        while not self._kernel.is_measured:
            if self.backend.is_lockstep or time.monotonic() > give_up_s:
                raise RobotError(f"backend {self.backend.name!r} gives no finite pose of the arm; check its driver")
            time.sleep(0.005)

    def _servo(self, now_s: float, measured: Measured) -> Reference:
        kernel, backend = self._kernel, self.backend
        live_s = self._gate.liveness()
        self._gate.ticked(live_s)
        with self._gate.lock:
            kernel.expire_lease(live_s)
            cause = backend.fault()
            if cause is not None:
                kernel.latch(cause)
            self._joint_reset.watch()
            return kernel.tick(now_s, measured)

    def _note(self, event: str, detail: str) -> None:
        if event == "watchdog":
            self._watchdog_fired += 1
        self._audit.note(event, detail)

    def _settle(self) -> None:
        """In lockstep, run one tick of the kernel at the present time: nobody else does."""
        if self.backend.is_lockstep:
            self._servo(self.backend.now_s(), measured_in(self.backend.state()))

    def _settled_state(self) -> RobotState:
        self._settle()
        return self.state()
