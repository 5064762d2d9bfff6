"""Keeps the frames on which the reward classifier was wrong, for `serl classifier review`."""

from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.classifier_data import next_number
from serl_core.data.episode_file import SUFFIX
from serl_core.data.labelled_frames import LabelledFrames, save_labelled
from serl_core.robots.messages import RobotState

STEM = "false-positive-"


class FalsePositives:
    """The newest frames of the episode.

    Feed every step to `see`; call `keep` when the truth or a person says that a success was none.

    Args:
        frames: how many in a row the rule needs; so many are kept.
    """

    def __init__(self, folder: Path, task_name: str, frames: int) -> None:
        self._folder = folder
        self._task_name = task_name
        self._seen: deque[tuple[dict[str, NDArray[np.uint8]], tuple[float, ...], float]] = deque(maxlen=frames)

    def begin_episode(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    def see(self, images: dict[str, NDArray[np.uint8]], state: RobotState, probability: float) -> None:
        """Remember a step until `frames` more have come."""
        self._seen.append((images, state.tcp_pose, probability))

    def keep(self) -> Path | None:
        """Write the steps seen last, labelled as no success; return the file, None if nothing was seen.

        Raises:
            DataError: it cannot be written.
        """
        if not self._seen:
            return None
        images, poses, probabilities = zip(*self._seen, strict=True)
        path = self._folder / f"{STEM}{next_number(self._folder, STEM):04d}{SUFFIX}"
        frames = LabelledFrames(
            task=self._task_name,
            images={name: np.stack([image[name] for image in images]) for name in images[0]},
            is_success=np.zeros(len(poses), np.bool_),
            step=np.arange(len(poses)),
            tcp_pose=np.array(poses),
            probability=np.array(probabilities),
        )
        save_labelled(path, frames)
        self._seen.clear()
        return path
