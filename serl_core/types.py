"""The values that cross module borders: observations, actions, transitions and how episodes end.

Plain NamedTuples of numpy arrays: a pytree for JAX without importing JAX. Arrays may carry
leading batch dimensions, written ``*b``.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int, UInt8
from numpy.typing import NDArray

from serl_core.errors import ConfigError

Array = NDArray[np.generic]


class EndReason(IntEnum):
    """Why an episode ended. Only `SUCCESS` and `FAILURE` are true ends, with discount 0."""

    RUNNING = 0
    SUCCESS = 1
    FAILURE = 2
    TIME_LIMIT = 3
    OPERATOR_STOP = 4
    ROBOT_FAULT = 5
    CAMERA_FAULT = 6
    POLICY_FAULT = 7  # its action was not finite

    @property
    def is_terminal(self) -> bool:
        """The task itself ended: nothing follows, so the value target does not bootstrap."""
        return self in (EndReason.SUCCESS, EndReason.FAILURE)

    @property
    def is_truncation(self) -> bool:
        """We stopped looking: the value target bootstraps from the last observation."""
        return self is not EndReason.RUNNING and not self.is_terminal


class Observation(NamedTuple):
    """What the policy sees.

    `images` (RGB) and, once the frozen encoder has run, `features`, of shape [fh fw fc], or
    [k fh fw fc] for k shifted copies; all empty when the task learns from state. `frames` are the
    images compressed (PNG or JPEG), for the log alone: learning never reads them.
    """

    proprio: Float32[np.ndarray, "*b p"]
    images: dict[str, UInt8[np.ndarray, "*b h w 3"]] = {}
    features: dict[str, Float16[np.ndarray, "*b fh fw fc"]] = {}
    frames: dict[str, UInt8[np.ndarray, " n"]] = {}


class Provenance(NamedTuple):
    """Where a transition comes from. `(session, sequence)` identifies it for ever."""

    session: str  # hex uuid of one run of one actor
    sequence: int  # 0, 1, 2, ... without gaps within the session
    episode: int  # counts episodes within the session
    policy_version: int  # of the weights that proposed the action; 0 before the first
    stamp_s: float  # the robot's clock at `next_observation`


class Transition(NamedTuple):
    """One step of experience, or a batch of them (then `provenance` is None)."""

    observation: Observation
    action: Float32[np.ndarray, "*b a"]  # in [-1, 1]; the action of whoever had control
    reward: Float[np.ndarray, "*b"] | float
    discount: Float[np.ndarray, "*b"] | float  # 0 only after a true end; a time limit keeps 1
    next_observation: Observation
    is_intervention: Bool[np.ndarray, "*b"] | bool  # a human (or the scripted expert) chose `action`
    end: Int[np.ndarray, "*b"] | EndReason
    provenance: Provenance | None = None


class BlockKind(Enum):
    """How the numbers of an action block are meant."""

    CONTINUOUS = "continuous"
    DISCRETE = "discrete"


@dataclass(frozen=True)
class ActionBlock:
    """A named run of numbers in the action vector, such as ``right/twist`` of size 6."""

    name: str
    size: int
    kind: BlockKind = BlockKind.CONTINUOUS

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"ActionBlock {self.name!r}: size must be at least 1, got {self.size}")


@dataclass(frozen=True)
class ActionSpec:
    """The blocks of an action, in order. Two arms or a gripper are more blocks, never other classes."""

    blocks: tuple[ActionBlock, ...]

    def __post_init__(self) -> None:
        names = [block.name for block in self.blocks]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"ActionSpec: block names must be unique and not empty, got {names}")

    @property
    def size(self) -> int:
        """Length of the whole action vector."""
        return sum(block.size for block in self.blocks)

    def split(self, action: Float[np.ndarray, "*b a"]) -> dict[str, Float[np.ndarray, "*b n"]]:
        """Return the blocks of `action` by name (views, last axis)."""
        if action.shape[-1] != self.size:
            raise ValueError(f"action has {action.shape[-1]} numbers, its spec {self.size}")
        edges = np.cumsum([block.size for block in self.blocks])[:-1]
        parts = np.split(action, edges, axis=-1)
        return {block.name: part for block, part in zip(self.blocks, parts, strict=True)}

    def join(self, parts: dict[str, Float[np.ndarray, "*b n"]]) -> Float[np.ndarray, "*b a"]:
        """Return the action vector of named blocks: the inverse of `split`."""
        if set(parts) != {block.name for block in self.blocks}:
            raise ValueError(f"got blocks {sorted(parts)}, the spec has {[b.name for b in self.blocks]}")
        return np.concatenate([parts[block.name] for block in self.blocks], axis=-1)


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """Shapes a learner needs, computed from the task's config without any hardware."""

    proprio_size: int
    action: ActionSpec
    control_hz: float
    image_shapes: dict[str, tuple[int, int, int]]  # name: (height, width, 3)
    feature_shapes: dict[str, tuple[int, int, int]]  # name: (height, width, channels)
    feature_copies: int = 1  # of each image: above 1, what is stored has a leading axis of this length
