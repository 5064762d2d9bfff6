"""`serl encoder pretrain`: trains the small image encoder on the simulator's pictures, and says what it is worth."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from robot_servers.sim.gl import import_mujoco
from robot_servers.sim.visuals import VisualRandomisation, Visuals
from serl_core.errors import ConfigError, RobotError
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.networks.frozen import load_encoder
from serl_core.networks.pretraining import LabelledImages, pretrain, probe
from serl_core.networks.weights import save_weights
from serl_core.robots.messages import Vector7

import_mujoco()  # before what imports it
from robot_servers.sim.cameras import SceneCamera  # noqa: E402
from robot_servers.sim.scenes import SOCKET_FLOOR_M, SOCKET_RIM_M, Scene, build_ram_insertion  # noqa: E402

# What an image is asked for: the target in the tool's frame, and how deep the stick is in the socket.
QUANTITIES = ("x mm", "y mm", "z mm", "yaw mrad", "depth mm")
SCALES = np.array([20.0, 20.0, 30.0, 60.0, 10.0], np.float32)
LOOKS = VisualRandomisation()
DEPTH_M = SOCKET_RIM_M - SOCKET_FLOOR_M
HELD_OUT = 10  # one moment in so many is not trained on
MIN_IMAGES = 90
REPORT_STEPS = 200


class Around(NamedTuple):
    """Where the tool may be, relative to its target: uniform, and plus or minus but for the height."""

    share: float  # of all moments
    across_m: float  # x and y
    low_m: float
    high_m: float
    yaw_rad: float
    tilt_rad: float


PLACES = (
    Around(0.40, 0.045, DEPTH_M + 0.002, 0.075, 0.12, 0.04),  # wherever an episode begins or strays
    Around(0.35, 0.006, DEPTH_M, DEPTH_M + 0.015, 0.06, 0.02),  # over the socket
    Around(0.25, 0.0005, 0.0, DEPTH_M, 0.008, 0.0),  # in it
)


@dataclass(frozen=True, kw_only=True)
class EncoderArgs:
    """Train the small image encoder on pictures of the RAM scene; compare it with an untrained one."""

    action: Annotated[Literal["pretrain"], tyro.conf.Positional]
    out: Path
    """The safetensors file to write; EncoderConfig.weights takes it."""
    images: int = 10500
    """In all, the same number from each camera; 48 kB of memory each."""
    steps: int = 4500
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("images", MIN_IMAGES), ("steps", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"--{name}: must be at least {low}, got {getattr(self, name)}")


def run_encoder(args: EncoderArgs) -> int:
    """Render, train, write, and print the errors of heads on the trained and on the untrained encoder."""
    enable_compilation_cache()
    console = Console()
    start_s = time.monotonic()
    names, data = render(build_ram_insertion(), args.images, args.seed)
    is_held_out = np.arange(len(data.targets)) % HELD_OUT == 0
    train, held_out = (LabelledImages(data.images[:, part], data.targets[part]) for part in (~is_held_out, is_held_out))
    console.print(f"{data.images.shape[1]} moments, each from {', '.join(names)}; {time.monotonic() - start_s:.0f} s")

    losses: list[float] = []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % REPORT_STEPS == 0 or step == args.steps:
            mean = np.mean(losses[-REPORT_STEPS:])
            console.print(f"step {step}: loss {mean:.3f}; {time.monotonic() - start_s:.0f} s")

    params = pretrain(train, args.steps, args.seed, report)
    facts = {"encoder": "small", "scene": "ram_insertion", **{k: getattr(args, k) for k in ("images", "steps", "seed")}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(args.out, params, facts)
    table = Table("encoder", "camera", "place", *QUANTITIES, title="mean absolute error on images held out")
    for config in (
        EncoderConfig(kind=EncoderKind.SMALL, weights=str(args.out)),
        EncoderConfig(kind=EncoderKind.RANDOM),
    ):
        encoder = load_encoder(config)
        errors = np.abs(probe(encoder.encode, train, held_out, args.seed)) * SCALES
        is_near = np.abs(held_out.targets * SCALES)[:, :3].max(1) < 1e3 * (DEPTH_M + 0.015)
        for name, own in zip(names, errors, strict=True):
            for place, part in (("all", slice(None)), ("near", is_near)):
                table.add_row(encoder.kind.value, name, place, *(f"{value:.2f}" for value in own[part].mean(0)))
    console.print(table)
    console.print(f"{args.out}: {load_encoder(EncoderConfig(kind=EncoderKind.SMALL, weights=str(args.out))).identity}")
    return 0


def render(scene: Scene, images: int, seed: int, size: int = 128) -> tuple[tuple[str, ...], LabelledImages]:
    """Return the cameras' names, and about `images` pictures with what they show, each moment in looks of its own.

    Raises:
        RobotError: there is no OpenGL.
    """
    names = tuple(scene.model.camera(i).name for i in range(scene.model.ncam))
    moments = images // len(names)
    random = np.random.default_rng(seed)
    pictures = np.empty((len(names), moments, size, size, 3), np.uint8)
    targets = np.empty((moments, len(QUANTITIES)), np.float32)
    camera = SceneCamera(scene, Visuals(randomisation=LOOKS))
    try:
        for i in range(moments):
            pose = _place(camera, scene, random)
            camera.randomise(int(random.integers(2**32)))
            pictures[:, i] = [camera.render(name, size, size) for name in names]
            targets[i] = seen_from(pose, scene.tool_target_pose) / SCALES
    finally:
        camera.close()
    return names, LabelledImages(pictures, targets)


def draw_pose(target: Vector7, random: np.random.Generator) -> Vector7:
    """Return a pose of the tool around `target`, in one of the `PLACES`."""
    place = PLACES[random.choice(len(PLACES), p=[place.share for place in PLACES])]
    x, y = random.uniform(-place.across_m, place.across_m, 2)
    z = random.uniform(place.low_m, place.high_m)
    tilt = random.uniform(-place.tilt_rad, place.tilt_rad, 2)
    turn = Rotation.from_rotvec([*tilt, random.uniform(-place.yaw_rad, place.yaw_rad)])
    position = np.array(target[:3]) + (x, y, z)
    return (*position.tolist(), *(turn * Rotation.from_quat(target[3:])).as_quat().tolist())


def seen_from(pose: Vector7, target: Vector7) -> NDArray[np.float32]:
    """Return the `QUANTITIES` [5] when the tool is at `pose`, in their units."""
    turn = Rotation.from_quat(pose[3:]).inv()
    away_m = turn.apply(np.subtract(target[:3], pose[:3]))
    yaw_rad = (turn * Rotation.from_quat(target[3:])).as_rotvec()[2]
    is_inside = max(abs(away_m[0]), abs(away_m[1])) < PLACES[-1].across_m * 2 and away_m[2] < DEPTH_M
    depth_m = DEPTH_M - away_m[2] if is_inside else 0.0
    return np.array([*(1e3 * away_m), 1e3 * yaw_rad, 1e3 * depth_m], np.float32)


def _place(camera: SceneCamera, scene: Scene, random: np.random.Generator) -> Vector7:
    while True:
        pose = draw_pose(scene.tool_target_pose, random)
        try:
            camera.place(pose, random)
        except RobotError:  # inside something: another one
            continue
        return pose
