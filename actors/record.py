"""Records demonstrations: each is on the disk as soon as its episode ends, failed ones are counted and dropped.

A success that only the reward classifier saw and the simulator denies is a failure: a policy would learn to fool it.
"""

import logging
from pathlib import Path
from typing import NamedTuple

from actors.actor import ActorLoop
from serl_core.data.episode_file import SUFFIX, save_episode
from serl_core.errors import ConfigError, DataError, SerlError
from serl_core.types import EndReason, Transition

logger = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW = 10
STEM = "demonstration-"


class Recording(NamedTuple):
    """What a recording came to."""

    saved: tuple[Path, ...]
    failed: int  # episodes that did not end in success


def record(loop: ActorLoop, count: int, folder: Path, *, task_digest: str) -> Recording:
    """Run episodes until `count` of them succeeded; add each to `folder` when it ends.

    The files are numbered on from the highest number that the folder has, so their order by name is
    the order in which they were recorded.

    Raises:
        ConfigError: `count` is below 1.
        DataError: the folder cannot be written, or someone else records into it.
        SerlError: ten demonstrations in a row failed; those from before are saved.
    """
    if count < 1:
        raise ConfigError(f"demonstrations to record: must be at least 1, got {count}")
    saved: list[Path] = []
    failed = failed_in_a_row = 0
    number = _next_number(folder)
    while len(saved) < count:
        episode = _run_episode(loop)
        if episode[-1].end is EndReason.SUCCESS and not loop.is_false_success:
            path = folder / f"{STEM}{number + len(saved):04d}{SUFFIX}"
            if path.exists():
                raise DataError(f"{path} is there already: another recorder uses this folder, choose one of your own")
            save_episode(path, episode, task_digest=task_digest)
            saved.append(path)
            failed_in_a_row = 0
            logger.info("demonstration %d of %d: %d steps", len(saved), count, len(episode))
        else:
            failed, failed_in_a_row = failed + 1, failed_in_a_row + 1
            reason = "false_success" if loop.is_false_success else EndReason(int(episode[-1].end)).name.lower()
            logger.info("not kept: ended by %s after %d steps", reason, len(episode))
        if failed_in_a_row == MAX_FAILURES_IN_A_ROW:
            raise SerlError(
                f"{failed_in_a_row} demonstrations in a row failed; {len(saved)} of {count} are saved in {folder}. "
                "Look at the scene and the task's success condition"
            )
    return Recording(tuple(saved), failed)


def _next_number(folder: Path) -> int:
    numbers = [path.name.removeprefix(STEM).removesuffix(SUFFIX) for path in folder.glob(f"{STEM}*{SUFFIX}")]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def _run_episode(loop: ActorLoop) -> list[Transition]:
    episode = [loop.step()]
    while episode[-1].end is EndReason.RUNNING:
        episode.append(loop.step())
    return episode
