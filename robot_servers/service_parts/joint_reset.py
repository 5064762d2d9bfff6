"""The slow joint-space move to the rest posture: the driver makes it, and the kernel follows and ends it."""

from robot_servers.backend import RobotBackend
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal
from robot_servers.service_parts.gate import Gate
from serl_core.robots.messages import Job, JointResetCommand

TOLERANCE_RAD = 0.01


class JointReset:
    """One at a time. `start` comes inside a turn of `gate`, `watch` from the control loop, under its lock."""

    def __init__(self, backend: RobotBackend, kernel: SafetyKernel, gate: Gate) -> None:
        """Store."""
        self._backend = backend
        self._kernel = kernel
        self._gate = gate
        self._is_on = False

    def start(self, command: JointResetCommand) -> Job:
        """Start it, or raise Refusal; then nothing has changed."""
        self._gate.require_fresh()
        with self._gate.lock:
            self._kernel.check_joint_reset(command.epoch)
        self._backend.start_joint_reset()
        try:
            with self._gate.lock:
                self._kernel.check_joint_reset(command.epoch)  # the lease may be lost by now, or the arm stopped
                self._is_on = True
                return self._kernel.begin_joint_reset()
        except Refusal:
            self._backend.cancel_joint_reset()
            raise

    def watch(self) -> None:
        """End the one that runs when the joints have arrived, or when the kernel no longer wants it."""
        if not self._is_on:
            return
        error_rad = self._backend.joint_reset_error_rad()
        is_wanted = self._kernel.is_joint_reset
        if is_wanted and error_rad is not None and error_rad > TOLERANCE_RAD:
            return
        self._is_on = False
        self._backend.cancel_joint_reset()
        if is_wanted and error_rad is not None:
            self._kernel.end_joint_reset()
        elif is_wanted:
            self._kernel.hold()  # none runs, so that none has arrived
