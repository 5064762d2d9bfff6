"""Whether the frames that a run will hold fit into this machine's memory, asked before it begins (FAULTS M2)."""

import math
import os
from pathlib import Path

from serl_core.data.rings import stored_shapes
from serl_core.errors import ConfigError
from serl_core.types import EnvSpec

USABLE = 0.8  # of the available memory, for frames: the programs need some too
STEP_BYTES = 64  # of a frame beside the arrays of the spec: reward, discount, indices
MEMORY_INFO = Path("/proc/meminfo")


def frame_bytes(spec: EnvSpec) -> int:
    """Return how many bytes a frame and the step that begins there take in a replay buffer."""
    images = sum(math.prod(shape) for shape in spec.image_shapes.values())
    features = sum(2 * math.prod(shape) for shape in stored_shapes(spec).values())  # float16
    return images + features + 4 * (spec.proprio_size + spec.action.size) + STEP_BYTES


def available_bytes(info: Path = MEMORY_INFO) -> int:
    """Return how much memory programs can still get, what the system would free for them included.

    Where the system does not say, all of its memory.
    """
    try:
        (line,) = [line for line in info.read_text().splitlines() if line.startswith("MemAvailable:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(spec: EnvSpec, frames: int, available: int) -> None:
    """Refuse to hold so many frames if they take more than 80 % of the available bytes.

    Raises:
        ConfigError: they do.
    """
    if frames * frame_bytes(spec) > USABLE * available:
        raise too_large(spec, frames, available)


def too_large(spec: EnvSpec, frames: int, available: int) -> ConfigError:
    """Return the error that says how much memory so many frames take and how much there is."""
    size = frame_bytes(spec)
    return ConfigError(
        f"replay buffer: {frames} frames of {size} bytes take {frames * size / 2**30:.3g} GiB, and {USABLE:.0%} of the "
        f"{available / 2**30:.3g} GiB available is allowed; train for fewer steps, take smaller or fewer images, "
        "ImageMode.FEATURES or fewer EncoderConfig.copies, a smaller --capacity (TrainerConfig.online_capacity), or "
        "free memory"
    )
