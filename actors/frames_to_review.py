"""Keeps the frames that the reward classifier called a success and a person should see: `serl classifier review`."""

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.classifier_data import next_number
from serl_core.config import TaskConfig
from serl_core.data.episode_file import SUFFIX
from serl_core.data.labelled_frames import LabelledFrames, save_labelled
from serl_core.robots.messages import RobotState

FALSE_POSITIVES, SUCCESSES = "false_positives", "successes"
STEMS = {False: "false-positive-", True: "success-"}


class _Seen(NamedTuple):
    images: dict[str, NDArray[np.uint8]]
    tcp_pose: tuple[float, ...]
    probability: float


class FramesToReview:
    """The newest frames of the episode, as many as the classifier's rule needs in a row.

    Feed every step to `see`; call `keep` when the rule has fired and the frames are worth a look, else `claim`.
    `deny` may be called on another thread.

    Args:
        run: gets the folders `false_positives` and `successes`.
    """

    def __init__(self, run: Path, task: TaskConfig) -> None:
        self._run = run
        self._task = task
        self._seen: deque[_Seen] = deque(maxlen=task.reward.frames)
        self._claimed: tuple[Sequence[_Seen], Path | None] = ((), None)  # of the last success, and its file
        self._writing = threading.Lock()  # of numbers in the folders

    def begin_episode(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    def see(self, images: dict[str, NDArray[np.uint8]], state: RobotState, probability: float) -> None:
        """Remember a step until as many more have come as are kept."""
        self._seen.append(_Seen(images, state.tcp_pose, probability))

    def keep(self, *, is_success: bool) -> Path | None:
        """Write the steps seen last with this label; return the file, None if nothing was seen.

        Args:
            is_success: False where the simulator says that it was none; True where nobody knows, for a person
                to correct.

        Raises:
            DataError: it cannot be written.
        """
        if not self._seen:
            return None
        seen = tuple(self._seen)
        self._seen.clear()
        self._claimed = (seen, None)
        path = self._save(seen, is_success=is_success)
        self._claimed = (seen, path if is_success else None)
        return path

    def claim(self) -> None:
        """Remember the steps seen last as a success that a person may still deny, without keeping them."""
        self._claimed = (tuple(self._seen), None)

    def deny(self) -> Path | None:
        """Keep the last success's frames as none, and no more as a success; return the file, None if there are none.

        Raises:
            DataError: it cannot be written.
        """
        (seen, kept), self._claimed = self._claimed, ((), None)
        if not seen:
            return None
        path = self._save(seen, is_success=False)
        if kept is not None:
            kept.unlink(missing_ok=True)
        return path

    def _save(self, seen: Sequence[_Seen], *, is_success: bool) -> Path:
        folder = self._run / (SUCCESSES if is_success else FALSE_POSITIVES)
        stem = STEMS[is_success]
        frames = LabelledFrames(
            task=self._task.name,
            images={name: np.stack([step.images[name] for step in seen]) for name in seen[0].images},
            is_success=np.full(len(seen), is_success),
            step=np.arange(len(seen)),
            tcp_pose=np.array([step.tcp_pose for step in seen]),
            probability=np.array([step.probability for step in seen]),
            origins=self._task.observation.image_origins,
        )
        with self._writing:
            path = folder / f"{stem}{next_number(folder, stem):04d}{SUFFIX}"
            save_labelled(path, frames)
        return path
