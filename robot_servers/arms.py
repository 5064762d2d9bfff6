"""Which arm `serl robot-server` serves. A driver is imported only when it is chosen: none needs another's libraries."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, assert_never

import tyro

from robot_servers.backend import RobotBackend
from robot_servers.grippers.interface import Gripper
from robot_servers.limits import SafetyLimits
from robot_servers.sim.visuals import VisualPreset
from serl_core.errors import ConfigError


class Backend(Enum):
    """Which arm."""

    SIM = "sim"
    FRANKY = "franky"  # FR3 through libfranka
    PANDA = "panda"  # Panda/FER through panda-python
    ROS2 = "ros2"  # crisp_controllers and franka_ros2


class ClockKind(Enum):
    """What makes time pass in a simulation."""

    LOCKSTEP = "lockstep"  # only when told, as fast as it can, the same to the bit for a seed
    REAL_TIME = "real_time"


class GripperKind(Enum):
    """What is at the flange of a real arm."""

    HAND = "hand"  # Franka's own
    ROBOTIQ = "robotiq"  # 2F over Modbus TCP
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class ArmOptions:
    """Which arm, and what its driver must know."""

    backend: Annotated[Backend, tyro.conf.EnumChoicesFromValues] = Backend.SIM
    """Which arm."""
    robot_ip: str | None = None
    """Address of a real arm."""
    gripper: Annotated[GripperKind, tyro.conf.EnumChoicesFromValues] = GripperKind.HAND
    """What is at the flange of a real arm."""
    gripper_address: str | None = None
    """HOST or HOST:PORT of a Robotiq gripper's Modbus TCP server."""
    ignore_realtime: bool = False
    """Control a real arm from a kernel without real-time scheduling: its motion may be cut off."""
    ros_namespace: str = ""
    """Of the arm's ROS 2 nodes."""
    scene: str = "ram_insertion"
    """What is in the simulator."""
    clock: Annotated[ClockKind, tyro.conf.EnumChoicesFromValues] = ClockKind.REAL_TIME
    """What makes simulated time pass."""
    seed: int = 0
    """Of the simulator's randomness."""
    visuals: Annotated[VisualPreset, tyro.conf.EnumChoicesFromValues] = VisualPreset.PLAIN
    """How the simulator's pictures look."""
    target_filter_s: float = 0.02
    """Time constant of the set-point's filter in the impedance law."""


def make_backend(options: ArmOptions, limits: SafetyLimits) -> RobotBackend:
    """Return the driver of the arm that was asked for; it is not started.

    Raises:
        ConfigError: an option that it needs is missing or wrong.
        ModuleNotFoundError: its library is not installed.
    """
    match options.backend:
        case Backend.SIM:
            from robot_servers.sim.gl import import_mujoco

            import_mujoco()
            from robot_servers.sim.backend import MujocoBackend

            return MujocoBackend(
                options.scene,
                seed=options.seed,
                is_lockstep=options.clock is ClockKind.LOCKSTEP,
                target_filter_s=options.target_filter_s,
                visuals=options.visuals.visuals,
            )
        case Backend.FRANKY:
            from robot_servers.franky import FrankyBackend

            return FrankyBackend(
                _robot_ip(options),
                limits,
                gripper=_gripper(options),
                target_filter_s=options.target_filter_s,
                enforce_realtime=not options.ignore_realtime,
            )
        case Backend.PANDA:
            from robot_servers.panda import PandaBackend

            return PandaBackend(
                _robot_ip(options),
                limits,
                gripper=_gripper(options),
                target_filter_s=options.target_filter_s,
                enforce_realtime=not options.ignore_realtime,
            )
        case Backend.ROS2:
            from robot_servers.ros2 import Ros2Backend, RosNode

            return Ros2Backend(
                RosNode(options.ros_namespace),
                limits,
                has_hand=options.gripper is GripperKind.HAND,
                gripper=_gripper(options) if options.gripper is GripperKind.ROBOTIQ else None,
                target_filter_s=options.target_filter_s,
            )
        case _:
            assert_never(options.backend)


def _gripper(options: ArmOptions) -> Gripper | None:
    match options.gripper:
        case GripperKind.NONE:
            return None
        case GripperKind.HAND:
            if options.backend is Backend.PANDA:
                from robot_servers.panda import PandaHand

                return PandaHand(_robot_ip(options))
            from robot_servers.grippers.franka_hand import FrankaHand

            return FrankaHand(_robot_ip(options))
        case GripperKind.ROBOTIQ:
            from robot_servers.grippers.robotiq import RobotiqGripper

            if options.gripper_address is None:
                raise ConfigError("--gripper robotiq needs --gripper-address, such as 192.168.1.11 or 192.168.1.11:502")
            return RobotiqGripper(options.gripper_address)
        case _:
            assert_never(options.gripper)


def _robot_ip(options: ArmOptions) -> str:
    if options.robot_ip is None:
        raise ConfigError(f"--backend {options.backend.value} needs --robot-ip, such as 172.16.0.2")
    return options.robot_ip
