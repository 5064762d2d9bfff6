"""Keeps the frames that the reward classifier called a success and a person should see: `serl classifier review`."""

from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.classifier_data import next_number
from serl_core.config import TaskConfig
from serl_core.data.episode_file import SUFFIX
from serl_core.data.labelled_frames import LabelledFrames, save_labelled
from serl_core.robots.messages import RobotState

FALSE_POSITIVES, SUCCESSES = "false_positives", "successes"
STEMS = {False: "false-positive-", True: "success-"}


class FramesToReview:
    """The newest frames of the episode, as many as the classifier's rule needs in a row.

    Feed every step to `see`; call `keep` when the rule has fired and the frames are worth a look.

    Args:
        run: gets the folders `false_positives` and `successes`.
    """

    def __init__(self, run: Path, task: TaskConfig) -> None:
        self._run = run
        self._task = task
        self._seen: deque[tuple[dict[str, NDArray[np.uint8]], tuple[float, ...], float]] = deque(
            maxlen=task.reward.frames
        )

    def begin_episode(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    def see(self, images: dict[str, NDArray[np.uint8]], state: RobotState, probability: float) -> None:
        """Remember a step until as many more have come as are kept."""
        self._seen.append((images, state.tcp_pose, probability))

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
        images, poses, probabilities = zip(*self._seen, strict=True)
        folder = self._run / (SUCCESSES if is_success else FALSE_POSITIVES)
        stem = STEMS[is_success]
        path = folder / f"{stem}{next_number(folder, stem):04d}{SUFFIX}"
        frames = LabelledFrames(
            task=self._task.name,
            images={name: np.stack([image[name] for image in images]) for name in images[0]},
            is_success=np.full(len(poses), is_success),
            step=np.arange(len(poses)),
            tcp_pose=np.array(poses),
            probability=np.array(probabilities),
            origins=self._task.observation.image_origins,
        )
        self._seen.clear()
        save_labelled(path, frames)
        return path
