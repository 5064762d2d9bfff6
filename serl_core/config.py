"""A task, described by values: frozen, checked on creation, printable and savable.

A task is one file in `examples/` with a `TaskConfig`. Everything here is computed without hardware,
so the learner never builds an environment.
"""

import hashlib
import itertools
import math
from dataclasses import dataclass, field, replace
from enum import Enum

import msgspec
import numpy as np

from serl_core.errors import ConfigError
from serl_core.geometry import compose, tilt_rad
from serl_core.image_config import NAME, REALSENSE_FIELDS, CameraConfig, EncoderConfig, depth_name
from serl_core.ranges import above_zero, between
from serl_core.robots.messages import ImpedanceParams, Vector3, Vector7
from serl_core.types import ActionBlock, ActionSpec, EnvSpec

MAX_SPEED_M_S = 0.25  # SAFETY 1.4 rule 4: what the robot server allows by default
MAX_SPEED_RAD_S = 1.0
MIN_CONTROL_HZ = 5.0  # SAFETY 1.5: the command watchdog holds the arm after 0.3 s
SHOULDER_M = (0.0, 0.0, 0.333)
REACH_M = 0.855  # Franka's data sheet: from the shoulder to the flange
FLANGE_TO_TCP_M = 0.107 + 0.1034


@dataclass(frozen=True, kw_only=True)
class SafetyBox:
    """Where the tool centre point may be sent, in the robot's base frame."""

    low_m: Vector3
    high_m: Vector3
    max_tilt_rad: float = 0.5  # from straight down

    def __post_init__(self) -> None:
        for axis, low, high in zip("xyz", self.low_m, self.high_m, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"SafetyBox.{axis}: low must be below high, got {low} m and {high} m")
        between("SafetyBox.max_tilt_rad", self.max_tilt_rad, 0.0, math.pi, "rad")

    def contains(self, position_m: Vector3, margin_m: float = 0.0) -> bool:
        """Return whether a position lies inside, at least `margin_m` from every side."""
        return all(
            low + margin_m <= value <= high - margin_m
            for value, low, high in zip(position_m, self.low_m, self.high_m, strict=True)
        )


class PoseFrame(Enum):
    """In which frame the policy sees the tool's pose."""

    TARGET = "target"  # relative to the task's target: the state-based scaffold, needs to know it
    EPISODE_START = "episode_start"  # relative to where the episode began: ego-centric, as in the paper


class ProprioTerm(Enum):
    """A part of the proprioceptive observation, and its length."""

    TCP_POSE = "tcp_pose"  # 6: position, then rotation vector, in the PoseFrame
    TCP_TWIST = "tcp_twist"  # 6: in the tool frame
    TCP_WRENCH = "tcp_wrench"  # 6: in the tool frame
    REFERENCE_ERROR = "reference_error"  # 6: set-point relative to the measured pose, tool frame
    GRIPPER = "gripper"  # 1
    Q = "q"  # 7
    DQ = "dq"  # 7

    @property
    def size(self) -> int:
        """How many numbers the term has."""
        return {"gripper": 1, "q": 7, "dq": 7}.get(self.value, 6)


@dataclass(frozen=True, kw_only=True)
class ProprioScale:
    """What each unit is multiplied by, so that the networks see numbers of order one."""

    per_m: float = 50.0
    per_rad: float = 20.0
    per_m_s: float = 8.0
    per_rad_s: float = 1.0
    per_n: float = 0.02
    per_nm: float = 0.2
    per_joint_rad: float = 0.5
    per_joint_rad_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ObservationConfig:
    """What the policy sees."""

    proprio: tuple[ProprioTerm, ...] = (
        ProprioTerm.TCP_POSE,
        ProprioTerm.TCP_TWIST,
        ProprioTerm.TCP_WRENCH,
    )
    pose_frame: PoseFrame = PoseFrame.EPISODE_START
    scale: ProprioScale = field(default_factory=ProprioScale)
    cameras: tuple[CameraConfig, ...] = ()
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        images = [name for camera in self.cameras for name in camera.image_names]
        cameras = [camera.name for camera in self.cameras]
        for what, names in (("cameras", cameras), ("images", images)):
            if len(set(names)) != len(names):
                raise ConfigError(f"ObservationConfig.cameras: names of {what} must be unique, got {names}")
        for name in (*cameras, *images):
            if not NAME.match(name):
                raise ConfigError(
                    f"ObservationConfig.cameras: a name has 1 to 32 letters, digits, '_' and '-', got {name!r}"
                )
        if not self.proprio or len(set(self.proprio)) != len(self.proprio):
            names = [term.value for term in self.proprio]
            raise ConfigError(f"ObservationConfig.proprio: terms must be unique and not empty, got {names}")

    @property
    def proprio_size(self) -> int:
        """Length of the proprioceptive vector."""
        return sum(term.size for term in self.proprio)

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """The images' shapes by name: (height, width, 3)."""
        return {name: (c.height, c.width, 3) for c in self.cameras for name in c.image_names}

    @property
    def image_origins(self) -> dict[str, str]:
        """What each image shows, in words, by name: its camera, the camera's source, the crop and the size.

        Two images of one shape are alike to a network only if these are the same. The device is left out: it
        is where a machine finds the camera.
        """
        origins = {}
        for camera in self.cameras:
            captured = f" {camera.capture[1]}x{camera.capture[0]}" if camera.capture else ""
            whole = f"{camera.name} ({camera.source.value}{captured})"
            crops = {crop.name: f", {crop.width}x{crop.height} at {crop.left},{crop.top}" for crop in camera.crops}
            for name in camera.picture_names:
                origins[name] = f"{whole}{crops.get(name, '')}, as {camera.width}x{camera.height}"
                if camera.depth_m:
                    origins[depth_name(name)] = f"{origins[name]}, depth {camera.depth_m[0]} to {camera.depth_m[1]} m"
        return origins


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """How far an action of 1 moves the target from the measured pose, in the tool frame."""

    translation_m: float = 0.015
    rotation_rad: float = 0.06
    has_gripper: bool = False

    @property
    def spec(self) -> ActionSpec:
        """Return the action's blocks: a tool-frame twist, and the gripper if there is one."""
        blocks = [ActionBlock("twist", 6)]
        if self.has_gripper:
            blocks.append(ActionBlock("gripper", 1))
        return ActionSpec(tuple(blocks))


@dataclass(frozen=True, kw_only=True)
class ResetConfig:
    """Where an episode starts, and how the arm gets there."""

    pose: Vector7  # centre of the start poses, base frame
    randomise_m: Vector3 = (0.0, 0.0, 0.0)  # uniform, +- per axis
    randomise_rz_rad: float = 0.0  # uniform, +- about the base's z axis
    lift_to_z_m: float | None = None  # go straight up to this height first: room to turn
    tolerance_m: float = 0.004
    tolerance_rad: float = 0.03
    tries: int = 3  # then ResetError
    is_teleport: bool = False  # simulation only: put the arm there at once

    def __post_init__(self) -> None:
        _check_pose("ResetConfig.pose", self.pose)
        for axis, value in zip("xyz", self.randomise_m, strict=True):
            between(f"ResetConfig.randomise_m.{axis}", value, 0.0, 1.0, "m")
        above_zero("ResetConfig.tolerance_m", self.tolerance_m, "m")
        above_zero("ResetConfig.tolerance_rad", self.tolerance_rad, "rad")
        if self.tries < 1:
            raise ConfigError(f"ResetConfig.tries: must be at least 1, got {self.tries}")
        between("ResetConfig.randomise_rz_rad", self.randomise_rz_rad, 0.0, math.pi, "rad")


class RewardKind(Enum):
    """Who says that the task is done. A task file may give its own function instead."""

    SIM_TRUTH = "sim_truth"  # the simulator
    POSE = "pose"  # the tool is at the target pose, within the tolerance
    CLASSIFIER = "classifier"  # a trained image classifier


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """A sparse reward of 1 on success, which also ends the episode."""

    kind: RewardKind = RewardKind.SIM_TRUTH
    frames: int = 2  # of how many new pictures in a row the classifier must say so
    tcp_z_m: tuple[float, float] | None = None  # with a classifier: no success while the tool is lower or higher
    tolerance_m: float = 0.005
    tolerance_rad: float = 0.05

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest reward of a step; outside of it a reward is a fault."""
        return 0.0, 1.0

    def __post_init__(self) -> None:
        above_zero("RewardConfig.tolerance_m", self.tolerance_m, "m")
        above_zero("RewardConfig.tolerance_rad", self.tolerance_rad, "rad")
        if self.frames < 1:
            raise ConfigError(f"RewardConfig.frames: must be at least 1, got {self.frames}")
        if self.tcp_z_m is not None and not -math.inf < self.tcp_z_m[0] < self.tcp_z_m[1] < math.inf:
            raise ConfigError(
                f"RewardConfig.tcp_z_m: must be a lower and a higher height or None, got {self.tcp_z_m} m"
            )


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Everything about a task but its code."""

    name: str
    scene: str | None = None  # of the simulator; None for a task that exists only on a real arm
    control_hz: float = 10.0
    time_limit_steps: int = 100
    box: SafetyBox
    target_pose: Vector7  # the tool's pose when the task is done, base frame
    reset: ResetConfig
    action: ActionConfig = field(default_factory=ActionConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    compliance: ImpedanceParams = field(default_factory=ImpedanceParams)  # while the policy acts
    precision: ImpedanceParams = field(
        default_factory=lambda: ImpedanceParams(
            translational_stiffness_n_m=2000.0,
            rotational_stiffness_nm_rad=150.0,
            translational_clip_m=(0.01,) * 6,
        )
    )  # while the arm resets

    def __post_init__(self) -> None:
        between("TaskConfig.control_hz", self.control_hz, MIN_CONTROL_HZ, 100.0, "Hz")
        _check_pose("TaskConfig.target_pose", self.target_pose)
        if self.time_limit_steps < 1:
            raise ConfigError(f"TaskConfig.time_limit_steps: must be at least 1, got {self.time_limit_steps}")
        if self.reward.kind is RewardKind.CLASSIFIER and not self.observation.cameras:
            raise ConfigError(
                f"RewardConfig.kind: 'classifier' judges images and task {self.name!r} has no camera; give "
                "ObservationConfig.cameras one, or choose sim_truth or pose"
            )
        self._check_speed("translation_m", self.action.translation_m, MAX_SPEED_M_S, "m")
        self._check_speed("rotation_rad", self.action.rotation_rad, MAX_SPEED_RAD_S, "rad")
        self._check_places()

    def _check_speed(self, name: str, scale: float, limit: float, unit: str) -> None:
        speed = scale * self.control_hz
        if not (scale > 0 and speed <= limit):
            raise ConfigError(
                f"ActionConfig.{name}: {scale} {unit} at {self.control_hz} Hz is {speed:.3g} {unit}/s; allowed is "
                f"above 0 and at most {limit} {unit}/s, so at most {limit / self.control_hz:.3g} {unit}"
            )

    def _check_places(self) -> None:
        """Refuse a target, start or lift that the box or the arm does not allow."""
        reset = self.reset
        self._check_place("TaskConfig.target_pose", self.target_pose)
        for signs in itertools.product((-1.0, 1.0), repeat=3):
            x, y, z = (c + s * r for c, s, r in zip(reset.pose, signs, reset.randomise_m, strict=False))
            self._check_place("ResetConfig.pose with randomise_m", (x, y, z, *reset.pose[3:]))
        if reset.lift_to_z_m is not None:
            self._check_place("ResetConfig.lift_to_z_m", (*reset.pose[:2], reset.lift_to_z_m, *reset.pose[3:]))

    def _check_place(self, name: str, pose: Vector7) -> None:
        position = pose[:3]
        if not self.box.contains(position):
            raise ConfigError(
                f"{name}: {_metres(position)} is outside the SafetyBox {_metres(self.box.low_m)} to "
                f"{_metres(self.box.high_m)}; widen the box or move the position"
            )
        tilt = float(tilt_rad(np.array(pose[3:])))
        if tilt > self.box.max_tilt_rad:
            raise ConfigError(
                f"{name}: tilted {tilt:.2f} rad from straight down; SafetyBox.max_tilt_rad allows "
                f"{self.box.max_tilt_rad} rad"
            )
        flange = compose(np.array(pose), np.array([0.0, 0.0, -FLANGE_TO_TCP_M, 0.0, 0.0, 0.0, 1.0]))
        reach = math.dist(flange[:3], SHOULDER_M)
        if reach > REACH_M:
            raise ConfigError(
                f"{name}: at {_metres(position)} the flange is {reach:.2f} m from the shoulder; "
                f"the arm reaches {REACH_M} m"
            )

    def env_spec(self) -> EnvSpec:
        """Return the shapes a learner needs."""
        return EnvSpec(
            proprio_size=self.observation.proprio_size,
            action=self.action.spec,
            control_hz=self.control_hz,
            image_shapes=self.observation.image_shapes,
            feature_shapes={},
        )

    def to_json(self) -> str:
        """Return the whole config as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def digest(self, features: str = "") -> str:
        """Return a short hash of the whole config: actor and learner must agree on it.

        Args:
            features: for a task with images, what they are turned into and by which encoder: it takes the
                place of the `EncoderConfig` and is appended after a ``+``.
        """
        observation = replace(self.observation, encoder=EncoderConfig())
        config = msgspec.to_builtins(replace(self, observation=observation))
        for camera in config["observation"]["cameras"]:
            for name in ("capture", *REALSENSE_FIELDS):
                if camera[name] is None:  # so digests from before there was this field stay what they were
                    del camera[name]
        encoded = msgspec.json.encode(config, order="sorted")
        task = hashlib.sha256(encoded).hexdigest()[:16]
        return f"{task}+{features}" if features else task


def _check_pose(name: str, pose: Vector7) -> None:
    norm = math.hypot(*pose[3:])
    if not (all(map(math.isfinite, pose)) and abs(norm - 1.0) <= 1e-2):
        raise ConfigError(
            f"{name}: needs x y z qx qy qz qw, finite and with a unit quaternion, got {pose} of norm {norm:.3f}"
        )


def _metres(position: Vector3) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in position) + ") m"
