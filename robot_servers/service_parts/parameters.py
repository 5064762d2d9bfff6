"""What an arm is told besides where to be: its gains, its payload, and the gripper's commands and faults."""

from robot_servers.audit import AuditLog
from robot_servers.backend import GripperBackend, RobotBackend
from robot_servers.impedance_limits import check_impedance, initial_impedance
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal, SafetyLimits, check_gripper, check_load
from robot_servers.service_parts.gate import Gate
from serl_core.robots.messages import (
    GripperCommand,
    ImpedanceCommand,
    ImpedanceParams,
    LoadCommand,
    Mode,
    RecoverCommand,
)


class Parameters:
    """Calls come inside a turn of `gate`; each raises `Refusal` and then has changed nothing.

    Raises:
        ConfigError: the limits allow no gains to start with.
    """

    def __init__(
        self, backend: RobotBackend, kernel: SafetyKernel, limits: SafetyLimits, gate: Gate, audit: AuditLog
    ) -> None:
        self._backend = backend
        self._kernel = kernel
        self._limits = limits
        self._gate = gate
        self._audit = audit
        self._gripper_backend = backend if isinstance(backend, GripperBackend) else None
        self._load: LoadCommand | None = None  # None: what the arm itself knows
        self._gripper: float | None = None  # the newest command, which a stream repeats with every step
        self._impedance = initial_impedance(limits)
        kernel.stiffness_n_m = self._impedance.translational_stiffness_n_m

    def start(self) -> None:
        """Give a backend that has just been started the gains of these limits."""
        if self._impedance != ImpedanceParams():
            self._backend.set_impedance(self._impedance)

    def impedance(self, command: ImpedanceCommand) -> None:
        """Change gains and clips; they ramp."""
        self._gate.require_free(command.epoch)
        check_impedance(command.params, self._limits)
        self._backend.set_impedance(command.params)
        if command.params != self._impedance:
            self._audit.note("impedance", "", old=repr(self._impedance), new=repr(command.params))
        self._impedance = command.params
        self._kernel.stiffness_n_m = command.params.translational_stiffness_n_m

    def load(self, command: LoadCommand) -> None:
        """Tell the arm its payload, while it holds."""
        self._gate.require_free(command.epoch)
        check_load(command, self._limits)
        if self._kernel.mode is not Mode.HOLD:
            raise Refusal(409, "busy", "the payload may change only while the arm holds")
        self._backend.set_load(command.mass_kg, command.center_m, command.inertia_kg_m2)
        self._audit.note("load", "", old=repr(self._load), new=repr(command))
        self._load = command

    # ---- the gripper

    def gripper(self, command: GripperCommand) -> None:
        """Start a gripper motion."""
        self._gate.require_free(command.epoch)
        check_gripper(command, self._limits)
        self.move_gripper(command)

    def is_new(self, command: GripperCommand) -> bool:
        """Return whether the gripper has not been sent there last."""
        return command.position != self._gripper

    def move_gripper(self, command: GripperCommand) -> None:
        """Send a command that was checked."""
        self._backend.set_gripper(command.position, command.speed_m_s, command.force_n)
        self._gripper = command.position

    def forget_gripper(self) -> None:
        """Take note that the fingers may be elsewhere: the next command is sent in any case."""
        self._gripper = None

    def gripper_fault(self) -> str | None:
        """Return why the gripper no longer obeys, or None."""
        return None if self._gripper_backend is None else self._gripper_backend.gripper_fault()

    def recover_gripper(self, command: RecoverCommand, fault: str) -> None:
        """Clear the gripper's present fault, which the command must name."""
        with self._gate.lock:
            self._kernel.check_free(command.epoch)  # its fingers may move: not while the arm is stopped
        if command.cause != fault:
            detail = f"the gripper's fault is {fault!r}, not {command.cause!r}, and the arm has none"
            raise Refusal(422, "cause", detail, field="cause", given=command.cause, limit=fault)
        if self._gripper_backend is not None:
            self._gripper_backend.recover_gripper()
        self._gripper = None
        self._audit.note("recover", fault)
