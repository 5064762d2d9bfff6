"""Ends a latched fault: when a client asks for it by name, and by itself only where the limits file allows that."""

from collections.abc import Callable

from robot_servers.backend import RobotBackend, measured_in
from robot_servers.kernel import SafetyKernel
from robot_servers.service_parts.gate import Gate
from robot_servers.service_parts.parameters import Parameters
from serl_core.robots.messages import Mode, RecoverCommand


class Recovery:
    """Calls come one at a time: each takes its turn at the driver."""

    def __init__(self, backend: RobotBackend, kernel: SafetyKernel, gate: Gate, parameters: Parameters) -> None:
        """Store."""
        self._backend = backend
        self._kernel = kernel
        self._gate = gate
        self._parameters = parameters

    def by_request(self, command: RecoverCommand) -> None:
        """Clear the latched fault that the client names; without one, the gripper's. Raises Refusal."""
        with self._gate.turn():
            gripper_fault = self._parameters.gripper_fault()
            if gripper_fault is not None and self._kernel.mode is not Mode.FAULT:
                self._parameters.recover_gripper(command, gripper_fault)
                return
            self._clear(lambda: self._kernel.check_recover(command.epoch, command.cause))

    def by_itself(self, cause: str) -> None:
        """Clear the latched fault `cause`, unless the arm is stopped. Raises Refusal."""
        with self._gate.turn():
            self._clear(lambda: self._kernel.check_own_recovery(cause))

    def _clear(self, check: Callable[[], None]) -> None:
        measured = measured_in(self._backend.state())
        with self._gate.lock:
            check()
            self._kernel.rebase(measured)  # first: the driver takes up the set-point as soon as it is free
            self._kernel.hold()  # and at its next tick: an arm that was lost has been moved unseen
        self._backend.recover()
        self._gate.ticked(self._gate.liveness())  # it has just answered: its silence before is over
        self._parameters.forget_gripper()
        with self._gate.lock:
            self._kernel.recover()
