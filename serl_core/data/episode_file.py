"""One episode as one safetensors file: arrays stacked over its steps, each frame once, a checked JSON header.

Nothing in such a file can run code. It is written beside its name and renamed, so a file under its
own name is whole; a CRC-32 over all of it tells later damage.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from serl_core.data.appending import sync_folder
from serl_core.errors import DataError
from serl_core.failpoints import failpoint
from serl_core.types import EndReason, Observation, Provenance, Transition
from serl_core.versions import other_version

VERSION = 1
SUFFIX = ".safetensors"
_FRAMES, _ENDS = "observation/frames/", "observation/frame_ends/"

Arrays = dict[str, NDArray[Any]]

COLUMNS: dict[str, type[np.generic]] = {
    "reward": np.float64,
    "discount": np.float64,
    "is_intervention": np.bool_,
    "end": np.int8,
    "sequence": np.int64,
    "policy_version": np.int64,
    "stamp_s": np.float64,
    "arrival": np.int64,
    "frame": np.int64,
    "next_frame": np.int64,
}
"""The arrays that have one number per step."""


class EpisodeHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says about its episode."""

    version: int
    session: str
    episode: int
    steps: int
    first_sequence: int
    last_sequence: int
    first_arrival: int  # the log's count when the first step came; 0 outside a log
    last_arrival: int
    end: str  # an EndReason's name; RUNNING when the rest was never seen
    policy_versions: tuple[int, int]  # lowest and highest
    task_digest: str


class Step(NamedTuple):
    """A transition with its place in the log."""

    arrival: int
    transition: Transition

    @property
    def provenance(self) -> Provenance:
        """Return where it comes from; logged transitions always have that."""
        assert self.transition.provenance is not None
        return self.transition.provenance


def save_episode(
    path: Path,
    transitions: Sequence[Transition],
    *,
    task_digest: str,
    arrivals: Sequence[int] | None = None,
    makes_folders: bool = True,
) -> EpisodeHeader:
    """Write the steps of one episode to `path`, all or nothing; return what the file says about it.

    Args:
        path: should end in ``.safetensors``.
        transitions: in order, of one episode, with provenance.
        task_digest: `TaskConfig.digest()` of the task.
        arrivals: the place of each step in a log; from 0 on when None.
        makes_folders: those that `path` needs and that are not there.

    Raises:
        DataError: there is no step, or the file cannot be written; nothing is left behind then.
    """
    if not transitions:
        raise DataError(f"{path}: an episode without steps cannot be saved")
    places = np.arange(len(transitions)) if arrivals is None else np.asarray(arrivals, np.int64)
    provenances = [_provenance(path, transition) for transition in transitions]
    versions = [provenance.policy_version for provenance in provenances]
    header = EpisodeHeader(
        version=VERSION,
        session=provenances[0].session,
        episode=provenances[0].episode,
        steps=len(transitions),
        first_sequence=provenances[0].sequence,
        last_sequence=provenances[-1].sequence,
        first_arrival=int(places[0]),
        last_arrival=int(places[-1]),
        end=EndReason(int(transitions[-1].end)).name,
        policy_versions=(min(versions), max(versions)),
        task_digest=task_digest,
    )
    arrays: Arrays = {
        **_stack_frames(transitions),
        "action": np.stack([t.action for t in transitions]),
        "reward": np.array([t.reward for t in transitions], np.float64),
        "discount": np.array([t.discount for t in transitions], np.float64),
        "is_intervention": np.array([t.is_intervention for t in transitions], np.bool_),
        "end": np.array([t.end for t in transitions], np.int8),
        "sequence": np.array([p.sequence for p in provenances], np.int64),
        "policy_version": np.array(versions, np.int64),
        "stamp_s": np.array([p.stamp_s for p in provenances], np.float64),
        "arrival": places,
    }
    text = msgspec.json.encode(header).decode()
    metadata = {"episode": text, "crc32": f"{_checksum(text, arrays):08x}"}
    write_atomically(path, save(arrays, metadata), makes_folders=makes_folders)
    return header


def load_header(path: Path) -> EpisodeHeader:
    """Return what the file says about its episode, without reading the arrays.

    Raises:
        DataError: the file is missing, not an episode, or of another version.
    """
    return _read(path, with_arrays=False)[0]


def load_episode(path: Path) -> list[Transition]:
    """Return the steps of an episode.

    Raises:
        DataError: the file is missing, corrupt, not an episode, or of another version.
    """
    return [step.transition for step in load_steps(path)]


def load_steps(path: Path) -> list[Step]:
    """Return the steps of an episode, each with its place in the log. Raises as `load_episode` does."""
    header, arrays = _read(path, with_arrays=True)
    try:
        _check_shapes(header.steps, arrays)
        frames = _unstack_frames(arrays)
        return [
            Step(
                int(arrays["arrival"][i]),
                Transition(
                    observation=frames[arrays["frame"][i]],
                    action=arrays["action"][i],
                    reward=float(arrays["reward"][i]),
                    discount=float(arrays["discount"][i]),
                    next_observation=frames[arrays["next_frame"][i]],
                    is_intervention=bool(arrays["is_intervention"][i]),
                    end=EndReason(int(arrays["end"][i])),
                    provenance=Provenance(
                        session=header.session,
                        sequence=int(arrays["sequence"][i]),
                        episode=header.episode,
                        policy_version=int(arrays["policy_version"][i]),
                        stamp_s=float(arrays["stamp_s"][i]),
                    ),
                ),
            )
            for i in range(header.steps)
        ]
    except (KeyError, IndexError, ValueError) as error:
        raise _corrupt(path, f"its arrays do not make an episode ({error!r})") from None


def load_episodes(directory: Path, *, task_digest: str | None = None) -> Iterator[list[Transition]]:
    """Return the episodes of a folder one after the other, by name.

    Args:
        directory: the folder.
        task_digest: `TaskConfig.digest()` of the task they must be of; any when None.

    Raises:
        DataError: there is no such folder, no episode in it, or one of them is corrupt or of another task.
    """
    paths = episode_paths(directory)
    for path in paths if task_digest is not None else ():
        found = load_header(path).task_digest
        if found != task_digest:
            raise DataError(
                f"{path} was recorded for a task of digest {found}, this one has {task_digest}: record again, "
                "or train with the configuration it was recorded with"
            )
    return map(load_episode, paths)


def episodes_digest(directory: Path) -> str:
    """Return a short hash of the episodes of a folder in the order of their names. Raises as `load_episodes` does."""
    digest = hashlib.sha256()
    for path in episode_paths(directory):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def episode_paths(directory: Path) -> list[Path]:
    """Return the episode files of a folder by name. Raises DataError when there are none."""
    if not directory.is_dir():
        raise DataError(f"no folder {directory}: record demonstrations with `serl record`, or name another folder")
    paths = sorted(directory.glob(f"*{SUFFIX}"))
    if not paths:
        raise DataError(f"no episode (*{SUFFIX}) in {directory}: record demonstrations with `serl record`")
    return paths


def write_atomically(path: Path, data: bytes, *, makes_folders: bool = True) -> None:
    """Put `data` at `path` for good, or leave what was there before; make the folders that it needs.

    Raises:
        DataError: the disk is full, read-only or gone.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        if makes_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            failpoint("file.opened")
            file.write(data)
            file.flush()
            failpoint("file.written")
            os.fsync(file.fileno())
            failpoint("file.synced")
        partial.replace(path)
        failpoint("file.renamed")
        sync_folder(path.parent)
        failpoint("file.folder_synced")
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}; make room or choose another folder") from error


def _provenance(path: Path, transition: Transition) -> Provenance:
    if transition.provenance is None:
        raise DataError(f"{path}: only transitions with provenance can be saved")
    return transition.provenance


def _observation_arrays(observation: Observation) -> Arrays:
    return {
        "observation/proprio": observation.proprio,
        **{f"observation/images/{name}": image for name, image in observation.images.items()},
        **{f"observation/features/{name}": feature for name, feature in observation.features.items()},
        **{f"{_FRAMES}{name}": frame for name, frame in observation.frames.items()},
    }


def _stack_frames(transitions: Sequence[Transition]) -> Arrays:
    """Return the distinct frames, and for each step the indices of the two it connects."""
    frames: list[Arrays] = []
    first, second = [], []
    for transition in transitions:
        observation = _observation_arrays(transition.observation)
        if not frames or any(array.tobytes() != frames[-1][name].tobytes() for name, array in observation.items()):
            frames.append(observation)
        first.append(len(frames) - 1)
        frames.append(_observation_arrays(transition.next_observation))
        second.append(len(frames) - 1)
    stacked: Arrays = {}
    for name in frames[0]:
        arrays = [frame[name] for frame in frames]
        if name.startswith(_FRAMES):  # of different lengths: end to end, and where each ends
            stacked[name] = _joined(arrays)
            stacked[name.replace(_FRAMES, _ENDS)] = np.cumsum([len(array) for array in arrays])
        else:
            (shape,) = {array.shape for array in arrays}
            stacked[name] = _joined(arrays).reshape(len(arrays), *shape)
    return {
        **stacked,
        "frame": np.array(first, np.int64),
        "next_frame": np.array(second, np.int64),
    }


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the numbers of arrays of the same dtype, end to end.

    NumPy would offer other threads the interpreter before each of them, which takes longer than all the copies.
    """
    (dtype,) = {array.dtype for array in arrays}
    return np.frombuffer(b"".join(np.ascontiguousarray(array).data for array in arrays), dtype)


def _check_shapes(steps: int, arrays: Arrays) -> None:
    """Raise ValueError unless there is a number for each step, and no more frames than the steps connect.

    An array without bytes may declare any length: nothing may be made of that many pieces.
    """
    for name, dtype in COLUMNS.items():
        _check_column(name, arrays[name], steps, dtype)
    proprio = arrays["observation/proprio"]
    if proprio.ndim != 2 or len(proprio) > 2 * steps:
        raise ValueError(f"observation/proprio of shape {proprio.shape} for {steps} steps")
    for name in arrays:
        if name.startswith(_ENDS):
            _check_column(name, arrays[name], len(proprio), np.int64)


def _check_column(name: str, array: NDArray[Any], length: int, dtype: type[np.generic]) -> None:
    if array.dtype != dtype or array.shape != (length,):
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)} where {dtype.__name__}[{length}] is needed")


def _unstack_frames(arrays: Arrays) -> list[Observation]:
    groups: dict[str, Arrays] = {
        kind: {
            name.split("/", 2)[2]: array for name, array in arrays.items() if name.startswith(f"observation/{kind}/")
        }
        for kind in ("images", "features", "frames")
    }
    frames = {name: np.split(joined, arrays[f"{_ENDS}{name}"][:-1]) for name, joined in groups["frames"].items()}
    return [
        Observation(
            proprio=proprio,
            images={name: array[i] for name, array in groups["images"].items()},
            features={name: array[i] for name, array in groups["features"].items()},
            frames={name: pieces[i] for name, pieces in frames.items()},
        )
        for i, proprio in enumerate(arrays["observation/proprio"])
    ]


def _read(path: Path, *, with_arrays: bool) -> tuple[EpisodeHeader, Arrays]:
    if not path.is_file():
        raise DataError(f"no episode file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()} if with_arrays else {}  # noqa: SIM118
        header = msgspec.json.decode(metadata.get("episode", ""), type=EpisodeHeader)
    except (SafetensorError, msgspec.MsgspecError, OSError, ValueError) as error:
        raise _corrupt(path, f"it is not an episode ({error})") from None
    if header.version != VERSION:
        raise DataError(other_version(path, header.version, VERSION))
    if with_arrays and metadata.get("crc32") != f"{_checksum(metadata['episode'], arrays):08x}":
        raise _corrupt(path, "its checksum does not match")
    return header, arrays


def _checksum(text: str, arrays: Arrays) -> int:
    value = zlib.crc32(text.encode())
    for name in sorted(arrays):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8).data, value)
    return value


def _corrupt(path: Path, what: str) -> DataError:
    return DataError(f"{path} is corrupt: {what}; move it out of its folder to go on without this episode")
