"""What a client may do with a simulated arm and no real one."""

from typing import cast

from robot_servers.backend import RobotBackend, SimBackend, measured_in
from robot_servers.kernel import SafetyKernel
from robot_servers.kernel_parts.latches import OUTSIDE_BOX
from robot_servers.limits import Refusal, SafetyLimits, check_pose, check_range
from robot_servers.service_parts.gate import Gate
from serl_core.errors import RobotError
from serl_core.robots.messages import SimAdvanceCommand, SimResetCommand, SimTruth

MAX_ADVANCE_S = 10.0
MAX_SEED = 2**63 - 1


class Simulation:
    """Commands come inside a turn of `gate`; each raises `Refusal` and then has changed nothing."""

    def __init__(self, backend: RobotBackend, kernel: SafetyKernel, limits: SafetyLimits, gate: Gate) -> None:
        self._backend = backend
        self._kernel = kernel
        self._limits = limits
        self._gate = gate

    def truth(self) -> SimTruth:
        """Return what only the simulator knows."""
        truth = self._simulator().state().truth
        if truth is None:
            raise Refusal(404, "no_truth", f"scene {self._backend.scene!r} has no task")
        return truth

    def advance(self, command: SimAdvanceCommand) -> None:
        """Move a lockstep simulation on."""
        simulator = self._simulator()
        if not simulator.is_lockstep:
            raise Refusal(409, "real_time", "this simulation runs in real time; start it with --clock lockstep")
        with self._gate.lock:
            self._kernel.leases.renew(command.epoch, self._gate.liveness())
        check_range("duration_s", command.duration_s, 0.0, MAX_ADVANCE_S)
        simulator.advance(command.duration_s)

    def reset(self, command: SimResetCommand) -> None:
        """Put the arm at a pose at once; it holds there. Ends the fault of an arm outside the box."""
        simulator = self._simulator()
        with self._gate.lock:
            self._kernel.check_sim_reset(command.epoch)
        if command.seed is not None:
            check_range("seed", command.seed, 0, MAX_SEED)
        pose = None if command.pose is None else check_pose(command.pose, self._limits)
        try:
            simulator.reset(command.seed, pose)
        except RobotError as error:
            raise Refusal(422, "unreachable", str(error), field="pose", given=command.pose) from None
        measured = measured_in(simulator.state())
        with self._gate.lock:
            self._kernel.rebase(measured)
            if self._kernel.fault == OUTSIDE_BOX:
                self._kernel.recover()

    def _simulator(self) -> SimBackend:
        if not self._backend.is_simulated:
            raise Refusal(404, "not_simulated", f"backend {self._backend.name!r} is a real arm")
        return cast(SimBackend, self._backend)
