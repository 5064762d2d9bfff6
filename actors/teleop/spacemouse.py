"""A SpaceMouse for each arm as one teleop."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from actors.teleop.arm_puck import ArmPuck, Puck, State
from actors.teleop.interface import TeleopCommand
from actors.teleop.puck import SpaceMouseConfig
from actors.teleop.puck_device import PuckDevice
from actors.teleop.puck_thread import PuckThread
from serl_core.errors import ConfigError
from serl_core.types import ActionSpec

TWIST, GRIPPER = "twist", "gripper"  # the kinds of an arm's blocks in an action


class SpaceMouseTeleop:
    """The devices of all arms as one `Teleop`.

    Args:
        arms: by the prefix of their blocks in the action, "" or such as "left/".
    """

    def __init__(self, spec: ActionSpec, arms: Mapping[str, ArmPuck]) -> None:
        self._spec = spec
        self._arms = dict(arms)

    def open(self) -> None:
        """Start reading the devices.

        Raises:
            ConfigError: one is missing, may not be opened, or lacks a button.
        """
        with ExitStack() as opened:
            opened.callback(self.close)
            for arm in self._arms.values():
                arm.open()
            opened.pop_all()

    def read(self) -> TeleopCommand:
        """Return the newest command, without blocking. Engaged at one arm is engaged: the others stay."""
        commands = {prefix: arm.read() for prefix, arm in self._arms.items()}
        parts = {}
        for block in self._spec.blocks:
            prefix, kind = split_name(block.name)
            command = commands[prefix]
            parts[block.name] = command.twist if kind == TWIST else np.array([command.gripper])
        return TeleopCommand(
            self._spec.join(parts).astype(np.float32),
            is_engaged=any(command.is_engaged for command in commands.values()),
            hands_back=any(command.hands_back for command in commands.values()),
            is_lost=any(command.is_lost for command in commands.values()),
        )

    def age_s(self) -> float | None:
        """See `Reporting`. Of the arm's device that was silent for longest; a puck at rest is silent."""
        return max((age_s for arm in self._arms.values() if (age_s := arm.age_s()) is not None), default=None)

    def close(self) -> None:
        """Stop reading."""
        for arm in self._arms.values():
            arm.close()


def make_spacemouse(
    spec: ActionSpec,
    config: SpaceMouseConfig,
    states: Mapping[str, State],
    *,
    is_demonstrating: bool = False,
    pucks: Sequence[Puck] | None = None,
) -> SpaceMouseTeleop:
    """Return a teleop with a device for each arm that `spec` moves. Nothing is opened.

    Args:
        states: of the arms, by the prefix of their blocks.
        pucks: in the order of the arms, instead of those that `config` names.

    Raises:
        ConfigError: a block that no SpaceMouse can give, or another number of devices than of arms.
    """
    kinds: dict[str, set[str]] = {}
    for block in spec.blocks:
        prefix, kind = split_name(block.name)
        if (kind, block.size) not in ((TWIST, 6), (GRIPPER, 1)):
            raise ConfigError(
                f"SpaceMouse: cannot give the action's block {block.name!r} of {block.size}; it gives a {TWIST!r} of "
                f"6 and a {GRIPPER!r} of 1; choose another --teleop"
            )
        kinds.setdefault(prefix, set()).add(kind)
    if missing := [prefix for prefix in kinds if prefix not in states]:
        raise ConfigError(
            f"SpaceMouse: the action moves the arms {list(kinds)}; the state of {missing} is not known here"
        )
    if pucks is None:
        pucks = [PuckThread(PuckDevice(device)) for device in config.devices or (None,)]
    if len(pucks) != len(kinds):
        raise ConfigError(
            f"SpaceMouseConfig.devices: {len(pucks)} given for {len(kinds)} arms; name one for each, by serial "
            "number or path"
        )
    arms = {
        prefix: ArmPuck(puck, config, states[prefix], has_gripper=GRIPPER in blocks, is_demonstrating=is_demonstrating)
        for (prefix, blocks), puck in zip(kinds.items(), pucks, strict=True)
    }
    return SpaceMouseTeleop(spec, arms)


def split_name(name: str) -> tuple[str, str]:
    """Return the arm's prefix and the kind of a block's name: "left/" and "twist" of "left/twist"."""
    kind = name.rpartition("/")[2]
    return name.removesuffix(kind), kind
