"""The registers of a Robotiq 2F gripper. Here alone are position, speed and force bytes, 0..255.

From the "2F-85 & 2F-140 Instruction Manual", chapter "Control": three registers of two bytes each way.
To the gripper: action (rACT, rGTO), position rPR, speed rSP and force rFR. From it: status (gACT, gGTO,
gSTA, gOBJ), fault gFLT, the echo gPR of rPR, position gPO and current gCU. Position 255 is closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serl_core.errors import ConfigError

OUTPUT_ADDRESS = 0x03E8  # what the gripper is told
INPUT_ADDRESS = 0x07D0  # what it says
REGISTERS = 3
UNIT_ID = 9

ACTIVATE = 0x01  # rACT
GO_TO = 0x08  # rGTO
ACTIVATED = 3  # gSTA
FIRST_MAJOR_FAULT = 0x0A  # of gFLT; smaller ones end by themselves
LARGEST = 255

FAULTS = {
    0x05: "an action waits for the activation to end",
    0x07: "it must be activated before it moves",
    0x08: "it is too hot",
    0x09: "it had no communication for 1 s",
    0x0A: "its supply voltage is too low",
    0x0B: "the automatic release is under way",
    0x0C: "an internal fault",
    0x0D: "the activation failed; look whether something is between the fingers",
    0x0E: "the motor's current is too high",
    0x0F: "the automatic release is complete",
}


@dataclass(frozen=True, kw_only=True)
class RobotiqModel:
    """What one model can do, by its data sheet: byte 0 of speed and force is the first number, 255 the second."""

    name: str
    stroke_m: float
    speed_m_s: tuple[float, float]
    force_n: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.stroke_m > 0.0:
            raise ConfigError(f"RobotiqModel.stroke_m must be > 0 m, got {self.stroke_m} m; a 2F-85 has 0.085 m")
        for name, (low, high) in (("speed_m_s", self.speed_m_s), ("force_n", self.force_n)):
            if not 0.0 < low < high:
                raise ConfigError(
                    f"RobotiqModel.{name} must be 0 < low < high, got {low} and {high}; see its data sheet"
                )


TWO_F_85 = RobotiqModel(name="2F-85", stroke_m=0.085, speed_m_s=(0.020, 0.150), force_n=(20.0, 235.0))
TWO_F_140 = RobotiqModel(name="2F-140", stroke_m=0.140, speed_m_s=(0.030, 0.250), force_n=(10.0, 125.0))


class Status(NamedTuple):
    """What the gripper says of itself."""

    is_activated: bool  # gACT, and gSTA says that it is complete
    position: int  # gPO, 255 closed
    fault: int  # gFLT


def decode_status(registers: Sequence[int]) -> Status:
    """Return what three input registers say."""
    flags, fault, position = registers[0] >> 8, registers[1] >> 8, registers[2] >> 8
    is_activated = bool(flags & ACTIVATE) and (flags >> 4) & 0x03 == ACTIVATED
    return Status(is_activated, position, fault & 0x0F)


def encode_move(model: RobotiqModel, position: float, speed_m_s: float, force_n: float) -> list[int]:
    """Return three output registers that move to `position`, 0 closed .. 1 open.

    A speed or force beyond the model's range is the nearest that it can do.
    """
    speed, force = _byte(speed_m_s, *model.speed_m_s), _byte(force_n, *model.force_n)
    return [(ACTIVATE | GO_TO) << 8, _byte(1.0 - position, 0.0, 1.0), speed << 8 | force]


def encode_activation(is_on: bool) -> list[int]:
    """Return three output registers that begin the activation, or clear it. The rising edge activates."""
    return [(ACTIVATE << 8) if is_on else 0, 0, 0]


def opening(position: int) -> float:
    """Return 0 closed .. 1 open for gPO."""
    return 1.0 - min(max(position, 0), LARGEST) / LARGEST


def _byte(value: float, low: float, high: float) -> int:
    return round(LARGEST * (min(max(value, low), high) - low) / (high - low))
