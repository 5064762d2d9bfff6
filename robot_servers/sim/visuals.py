"""How the simulator's pictures look, as data: presets, and what may vary from one reset to the next."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from serl_core.errors import ConfigError

VISUAL_STREAM = 1  # beside the physical random stream of the same seed, which it leaves as it is
NOISE_CELLS = (4, 16, 64)  # along a texture's side: from stains to grain


@dataclass(frozen=True, kw_only=True)
class VisualRandomisation:
    """How far the looks vary, uniformly, plus or minus. All zero varies nothing."""

    light: float = 0.4  # share of each light's brightness, per colour channel a quarter of it
    light_position_m: float = 0.5
    colour: float = 0.12  # of each channel of every geom, whose range is 0 to 1
    camera_position_m: float = 0.002  # as a real camera is mounted anew
    camera_angle_rad: float = 0.02
    texture_noise: float = 0.2  # of the table's texture, whose range is 0 to 1

    def __post_init__(self) -> None:
        highest = {"light": 0.9, "light_position_m": 2.0, "camera_position_m": 0.1, "camera_angle_rad": math.pi}
        for name, value in vars(self).items():
            high = highest.get(name, 1.0)
            if not 0.0 <= value <= high:  # also refuses NaN
                raise ConfigError(f"VisualRandomisation.{name}: must be 0 to {high:g}, got {value}")


@dataclass(frozen=True, kw_only=True)
class Visuals:
    """How a picture is drawn."""

    randomisation: VisualRandomisation | None = None
    supersampling: int = 2  # drawn so many times larger, then averaged: edges move by less than a pixel
    multisamples: int = 0
    has_shadows: bool = False
    has_sky: bool = False
    is_fine: bool = False  # round shapes in many facets


class VisualPreset(Enum):
    """Ready-made looks."""

    PLAIN = "plain"  # quick, and the same for the same state
    RANDOMISED = "randomised"  # plain, with light, colours, camera poses and textures that change at each reset
    PRETTY = "pretty"  # shadows and a sky, for videos; a hundred times slower without a GPU

    @property
    def visuals(self) -> Visuals:
        """What the preset stands for."""
        return {
            VisualPreset.PLAIN: Visuals(),
            VisualPreset.RANDOMISED: Visuals(randomisation=VisualRandomisation()),
            VisualPreset.PRETTY: Visuals(supersampling=1, multisamples=4, has_shadows=True, has_sky=True, is_fine=True),
        }[self]


def visual_stream(seed: int) -> np.random.Generator:
    """Return the random stream of the looks that belongs to a scene's seed."""
    return np.random.default_rng((seed, VISUAL_STREAM))


def randomise(model: Any, base: Any, ranges: VisualRandomisation, random: np.random.Generator) -> None:
    """Draw the looks of `model` (a textured MjModel) anew around those of `base`, its untouched twin.

    Nothing that moves or collides is changed. The textures must be uploaded again afterwards.
    """
    gain = 1.0 + random.uniform(-ranges.light, ranges.light, (base.nlight + 1, 1))
    gain = gain * (1.0 + random.uniform(-ranges.light / 4, ranges.light / 4, (base.nlight + 1, 3)))
    model.light_diffuse[:] = base.light_diffuse * gain[1:]
    model.light_pos[:] = base.light_pos + _spread(random, ranges.light_position_m, base.light_pos.shape)
    for part in ("ambient", "diffuse"):
        getattr(model.vis.headlight, part)[:] = getattr(base.vis.headlight, part) * gain[0]
    for colours, given in ((model.geom_rgba, base.geom_rgba), (model.mat_rgba, base.mat_rgba)):
        shift = _spread(random, ranges.colour, (len(given), 3))
        colours[:, :3] = (given[:, :3] + shift).clip(0.0, 1.0)
    model.cam_pos[:] = base.cam_pos + _spread(random, ranges.camera_position_m, base.cam_pos.shape)
    turns = Rotation.from_rotvec(_spread(random, ranges.camera_angle_rad, base.cam_pos.shape))
    model.cam_quat[:] = (Rotation.from_quat(base.cam_quat, scalar_first=True) * turns).as_quat(scalar_first=True)
    texture = base.texture("table")
    start, size = int(texture.adr[0]), int(texture.height[0])
    end = start + 3 * size * size
    noise = 255.0 * ranges.texture_noise * _noise(random, size)
    texels = base.tex_data[start:end].reshape(size, size, 3) + noise[:, :, None]
    model.tex_data[start:end] = texels.clip(0, 255).astype(np.uint8).ravel()


def _spread(random: np.random.Generator, half: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return random.uniform(-half, half, shape)


def _noise(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return smooth noise in -1 to 1 [size, size] that repeats without a seam."""
    layers = [
        ndimage.zoom(random.uniform(-1.0, 1.0, (cells, cells)), size / cells, order=1, mode="grid-wrap", grid_mode=True)
        for cells in NOISE_CELLS
    ]
    return np.mean(layers, axis=0)
