"""What moves the arm while a client keeps sending it: targets, alone or with the gripper, and wrenches."""

from typing import cast

from robot_servers.backend import RobotBackend, SimBackend
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import SafetyLimits, check_gripper, check_range
from robot_servers.service_parts.gate import Gate
from robot_servers.service_parts.parameters import Parameters
from serl_core.robots.messages import GripperCommand, PoseCommand, StreamCommand, WrenchCommand


class Targets:
    """Each command takes a turn of `gate`, or raises `Refusal` and then has changed nothing."""

    def __init__(
        self, backend: RobotBackend, kernel: SafetyKernel, limits: SafetyLimits, gate: Gate, parameters: Parameters
    ) -> None:
        """Store."""
        self._backend = backend
        self._kernel = kernel
        self._limits = limits
        self._gate = gate
        self._parameters = parameters

    def stream_step(self, command: StreamCommand) -> float:
        """Follow a new target; in lockstep advance by `reply_after_s`, else return after how many s to reply."""
        check_range("reply_after_s", command.reply_after_s, 0.0, self._limits.max_reply_after_s)
        gripper = None
        if command.gripper is not None:
            check_range("gripper", command.gripper, 0.0, 1.0)
            gripper = GripperCommand(epoch=command.epoch, position=command.gripper)
            check_gripper(gripper, self._limits)
        with self._gate.turn():
            if gripper is not None and self._parameters.is_new(gripper):
                self._gate.require_fresh()
                with self._gate.lock:
                    self._kernel.check_track(
                        command.epoch, command.sequence, command.pose, self._gate.liveness(), self._sent_s(command)
                    )
                self._parameters.move_gripper(gripper)  # first: one that refuses must leave the target as it is
            self._track(command)
            if not self._backend.is_lockstep:
                return command.reply_after_s
            cast(SimBackend, self._backend).advance(command.reply_after_s)
            return 0.0

    def pose(self, command: PoseCommand) -> None:
        """Follow a new target."""
        with self._gate.turn():
            self._track(command)

    def wrench(self, command: WrenchCommand) -> None:
        """Push with a feed-forward wrench for a moment."""
        with self._gate.turn():
            self._gate.require_fresh()
            with self._gate.lock:
                self._kernel.push(
                    command.epoch, command.wrench, self._gate.liveness(), command.sequence, self._sent_s(command)
                )

    def _track(self, command: StreamCommand | PoseCommand) -> None:
        self._gate.require_fresh()
        with self._gate.lock:
            self._kernel.track(
                command.epoch, command.sequence, command.pose, self._gate.liveness(), self._sent_s(command)
            )

    def _sent_s(self, command: StreamCommand | PoseCommand | WrenchCommand) -> float | None:
        """Return when the client sent a command; None in lockstep, where no time passes on the way."""
        return None if self._backend.is_lockstep else command.sent_s
