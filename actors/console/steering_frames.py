"""From the axes in which a person steers to those of the tool, which the actor takes."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from jaxtyping import Float
from msgspec import Meta

from actors.console.browser_messages import Frame
from serl_core.errors import ConfigError
from serl_core.geometry import matrix_to_quaternion, twist_from_local, twist_to_local

Twist6 = Float[np.ndarray, "6"]
Quaternion4 = Float[np.ndarray, "4"]


class Mounting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a camera is turned. Its axes: x to the right in the picture, y down, z into it."""

    on: Literal["tool", "base"]  # what it is fixed to, and in whose axes the quaternion is
    quaternion: tuple[float, float, float, float]  # x y z w: maps the camera's axes to those of `on`

    def __post_init__(self) -> None:
        if not abs(np.linalg.norm(self.quaternion) - 1.0) < 1e-2:
            raise ValueError(f"quaternion must be of norm 1, got {self.quaternion}")


def _simulated_wrist() -> Mounting:
    """Return the wrist camera of the simulated arm: it looks from (0.1, 0, -0.041) m at (0, 0, 0.085) m of the tool.

    Its picture's upper side is away from where the tool points, so "down" in it is mostly towards the tool's x.
    """
    into = np.array([-0.1, 0.0, 0.126]) / np.hypot(0.1, 0.126)
    right = np.array([0.0, -1.0, 0.0])
    axes = np.stack([right, np.cross(into, right), into], axis=-1)
    x, y, z, w = matrix_to_quaternion(axes).tolist()
    return Mounting("tool", (x, y, z, w))


SIMULATED = {"wrist": _simulated_wrist()}
Mountings = dict[Annotated[str, Meta(max_length=32)], Mounting]


def load_mountings(path: Path | None) -> Mountings:
    """Return the mountings of a JSON file by the camera's name; without a file those of the simulated arm.

    Raises:
        ConfigError: the file is missing, or not as it must be.
    """
    if path is None:
        return SIMULATED
    try:
        mountings: Mountings = msgspec.json.decode(path.read_bytes(), type=Mountings)
        return mountings
    except OSError as error:
        raise ConfigError(f"camera mountings {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(
            f'camera mountings {path}: {error}; write {{"wrist": {{"on": "tool", "quaternion": [x, y, z, w]}}}}'
        ) from None


def to_tool(twist: Twist6, frame: Frame, tool: Quaternion4 | None, mounting: Mounting | None) -> Twist6:
    """Return a person's command in the tool's axes, in [-1, 1].

    Only directions change: a command stands for an increment of the pose, whose halves turn separately. One that
    is longer than 1 along a new axis is shortened as a whole, so its direction stays.

    Args:
        twist: in [-1, 1], in `frame`.
        tool: the tool's rotation in the base, as it is now; needed for everything but the tool's own frame.
        mounting: of the camera, in its frame.

    Raises:
        ConfigError: what the frame needs is not known.
    """
    if frame is Frame.TOOL:
        return twist
    if frame is Frame.CAMERA:
        if mounting is None:
            raise ConfigError("nobody knows how this camera is mounted; steer in the tool's or base's axes")
        camera = np.array(mounting.quaternion)
        in_parent = twist_from_local(camera / np.linalg.norm(camera), twist)
        return _within_one(in_parent if mounting.on == "tool" else _base_to_tool(in_parent, tool))
    return _within_one(_base_to_tool(twist, tool))


def _base_to_tool(twist: Twist6, tool: Quaternion4 | None) -> Twist6:
    if tool is None:
        raise ConfigError("where the tool points is not known yet; steer in the tool's axes until the robot answers")
    return twist_to_local(tool, twist)


def _within_one(twist: Twist6) -> Twist6:
    halves: Float[np.ndarray, "2 3"] = twist.reshape(2, 3)
    longest = np.abs(halves).max(axis=1, keepdims=True)
    shortened: Twist6 = (halves / np.maximum(longest, 1.0)).reshape(6)
    return shortened
