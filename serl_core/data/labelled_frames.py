"""Frames labelled success or not, to train and check a reward classifier: one safetensors file per episode.

Written as episode files are: beside its name and renamed, with a CRC-32, and with nothing in it that
can run code. The pictures stay PNG or JPEG.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from serl_core.config import TaskConfig
from serl_core.data.episode_file import SUFFIX, write_atomically
from serl_core.data.frames import compress, decompress
from serl_core.errors import ConfigError, DataError
from serl_core.image_config import FrameFormat

VERSION = 1
FACTS = "labelled_frames"

Shape = tuple[int, int, int]


class LabelledFrames(NamedTuple):
    """One episode's frames, in order."""

    task: str
    images: dict[str, UInt8[np.ndarray, "n _ _ 3"]]  # RGB, by name
    is_success: Bool[np.ndarray, " n"]  # the label
    step: Int[np.ndarray, " n"]  # of the episode; a gap where frames were left out
    tcp_pose: Float[np.ndarray, "n 7"]  # base frame
    probability: Float[np.ndarray, " n"] | None = None  # of the classifier that kept these frames for review
    origins: Mapping[str, str] = {}  # of the images: `ObservationConfig.image_origins`

    @property
    def run(self) -> Int[np.ndarray, " n"]:
        """Return a number per frame that changes where frames were left out."""
        return np.cumsum(np.diff(self.step, prepend=self.step[:1]) > 1)

    def image_shapes(self) -> dict[str, Shape]:
        """Return (height, width, 3) of each image."""
        return {name: stack.shape[1:] for name, stack in self.images.items()}

    def select(self, keep: Bool[np.ndarray, " n"]) -> "LabelledFrames":
        """Return the frames where `keep` holds."""
        return self._replace(
            images={name: stack[keep] for name, stack in self.images.items()},
            is_success=self.is_success[keep],
            step=self.step[keep],
            tcp_pose=self.tcp_pose[keep],
            probability=None if self.probability is None else self.probability[keep],
        )


class _Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    task: str
    images: tuple[str, ...]
    frames: int
    origins: dict[str, str] = {}


def save_labelled(path: Path, frames: LabelledFrames, form: FrameFormat = FrameFormat.PNG) -> None:
    """Write one episode's frames to `path`, all or nothing.

    Raises:
        DataError: there is no frame or no image, or the file cannot be written.
    """
    count = frames.is_success.size
    if count == 0 or not frames.images:
        raise DataError(f"{path}: needs at least one frame of one image, got {count} of {sorted(frames.images)}")
    arrays: dict[str, NDArray[Any]] = {
        "is_success": frames.is_success,
        "step": frames.step.astype(np.int64),
        "tcp_pose": frames.tcp_pose.astype(np.float64),
    }
    if frames.probability is not None:
        arrays["probability"] = frames.probability.astype(np.float64)
    for name, stack in frames.images.items():
        packed = [compress({name: image}, form)[name] for image in stack]
        arrays[f"bytes/{name}"] = np.concatenate(packed)
        arrays[f"ends/{name}"] = np.cumsum([data.size for data in packed])
    names = tuple(sorted(frames.images))
    origins = {name: frames.origins[name] for name in names if name in frames.origins}
    facts = _Facts(version=VERSION, task=frames.task, images=names, frames=count, origins=origins)
    text = msgspec.json.encode(facts).decode()
    write_atomically(path, save(arrays, {FACTS: text, "crc32": _checksum(text, arrays)}))


def load_labelled(path: Path) -> LabelledFrames:
    """Return the frames of one file.

    Raises:
        DataError: it is missing, corrupt, of another kind or version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            facts = msgspec.json.decode(metadata[FACTS], type=_Facts)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"no file of labelled frames {path}") from None
    except (SafetensorError, msgspec.MsgspecError, OSError, KeyError) as error:
        raise _corrupt(path, f"it holds no labelled frames ({error})") from None
    if facts.version != VERSION:
        raise DataError(f"{path} is of version {facts.version}, this program reads {VERSION}: record the frames anew")
    if metadata.get("crc32") != _checksum(metadata[FACTS], arrays):
        raise _corrupt(path, "its checksum does not match")
    try:
        images = {name: _unpack(arrays[f"bytes/{name}"], arrays[f"ends/{name}"]) for name in facts.images}
        frames = LabelledFrames(
            facts.task,
            images,
            arrays["is_success"],
            arrays["step"],
            arrays["tcp_pose"],
            arrays.get("probability"),
            facts.origins,
        )
        lengths = {len(array) for array in (*images.values(), *frames[2:6]) if array is not None}
    except (KeyError, ValueError, TypeError, DataError) as error:
        raise _corrupt(path, f"its arrays make no labelled frames ({error})") from None
    if lengths != {facts.frames} or frames.is_success.dtype != np.bool_:
        raise _corrupt(path, f"its header counts {facts.frames} frames, its arrays {sorted(lengths)}")
    return frames


def load_folders(folders: Iterable[Path], *, images: Iterable[str] | None = None) -> list[LabelledFrames]:
    """Return the episodes of several folders, by folder and name.

    Args:
        folders: of `save_labelled`'s files.
        images: the names to keep; all when None.

    Raises:
        DataError: a folder is missing or empty, a file is damaged, or the files differ in task or images.
    """
    paths = [path for folder in folders for path in labelled_paths(folder)]
    episodes = list(_selected(paths, None if images is None else sorted(images)))
    if not episodes:
        raise DataError("no folder of labelled frames was named; `serl classifier record` makes one")
    first = episodes[0]
    for path, episode in zip(paths, episodes, strict=True):
        if _kind(episode) != _kind(first):
            raise DataError(
                f"{path} is of {_kind(episode)}, {paths[0]} of {_kind(first)}: a classifier is trained on one kind; "
                "name folders of one"
            )
    return episodes


def require_images(what: str, shapes: Mapping[str, Shape], origins: Mapping[str, str], task: TaskConfig) -> None:
    """Refuse images that the task does not have like that: of another size, camera, source or crop.

    Args:
        what: whose images they are, to begin the message.
        shapes: (height, width, 3) by name; the task may have more.
        origins: as `ObservationConfig.image_origins`; one that is missing differs.
        task: to compare with.

    Raises:
        ConfigError: the first that differs, with both.
    """
    known_shapes, known_origins = task.observation.image_shapes, task.observation.image_origins
    for name, shape in shapes.items():
        origin = origins.get(name, "unknown")
        if (shape, origin) == (known_shapes.get(name), known_origins.get(name)):
            continue
        has = f"it as {known_shapes[name]} from {known_origins[name]}" if name in known_shapes else sorted(known_shapes)
        raise ConfigError(
            f"{what}: its image {name!r} is {shape} from {origin}; task {task.name!r} has {has}. Give "
            "ObservationConfig.cameras that image, or record and train with this task's cameras"
        )


def labelled_paths(folder: Path) -> list[Path]:
    """Return the files of a folder by name. Raises DataError when there is no such folder, or none in it."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise DataError(f"no labelled frames (*{SUFFIX}) in {folder}: record some with `serl classifier record`")
    return paths


def count_labels(episodes: Iterable[LabelledFrames]) -> tuple[int, int]:
    """Return how many frames are positive, and how many negative."""
    labels = np.concatenate([np.zeros(0, np.bool_), *(episode.is_success for episode in episodes)])
    return int(labels.sum()), int((~labels).sum())


def _selected(paths: Iterable[Path], names: list[str] | None) -> Iterator[LabelledFrames]:
    for path in paths:
        episode = load_labelled(path)
        if names is not None:
            missing = sorted(set(names) - set(episode.images))
            if missing:
                raise DataError(f"{path}: has no images {missing}, it has {sorted(episode.images)}; name some of these")
            episode = episode._replace(
                images={name: episode.images[name] for name in names},
                origins={name: origin for name, origin in episode.origins.items() if name in names},
            )
        yield episode


def _kind(frames: LabelledFrames) -> str:
    images = [f"{name} {shape}, {frames.origins.get(name)}" for name, shape in sorted(frames.image_shapes().items())]
    return f"task {frames.task!r} with images {images}"


def _unpack(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> UInt8[np.ndarray, "n _ _ 3"]:
    parts = np.split(data, ends[:-1])
    return np.stack([decompress({"frame": part})["frame"] for part in parts])


def _checksum(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    value = zlib.crc32(text.encode())
    for name in sorted(arrays):
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8).data, zlib.crc32(name.encode(), value))
    return f"{value:08x}"


def _corrupt(path: Path, what: str) -> DataError:
    return DataError(f"{path} is corrupt: {what}; move it out of its folder to go on without it")
