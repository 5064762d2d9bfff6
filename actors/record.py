"""Records demonstrations: each is on the disk as soon as its episode ends, failed ones are counted and dropped.

A success that only the reward classifier saw and the simulator denies is a failure: a policy would learn to fool it.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from actors.actor import ActorLoop
from actors.operator_desk import OperatorDesk
from actors.veto import GRACE_S, settled
from serl_core.clock import Clock
from serl_core.data.episode_file import SUFFIX, save_episode
from serl_core.errors import ConfigError, DataError, SerlError
from serl_core.operator.messages import Control, RecordProgress
from serl_core.types import EndReason, Transition

logger = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW = 10
VETO_POLL_S = 0.02
STEM = "demonstration-"


class Recording(NamedTuple):
    """What a recording came to."""

    saved: tuple[Path, ...]
    failed: int  # episodes that did not end in success


def record(
    loop: ActorLoop,
    count: int,
    folder: Path,
    *,
    task_digest: str,
    desk: OperatorDesk | None = None,
    now: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Recording:
    """Run episodes until `count` of them succeeded; add each to `folder` when it ends.

    The files are numbered on from the highest number that the folder has, so their order by name is
    the order in which they were recorded. An episode that an operator stopped, or threw away, is no failure in a row.

    Args:
        desk: the loop's. An operator may veto a success for a moment, for which the arm holds.
        now: the desk's clock.

    Raises:
        ConfigError: `count` is below 1.
        DataError: the folder cannot be written, or someone else records into it.
        SerlError: ten demonstrations in a row failed; those from before are saved.
    """
    if count < 1:
        raise ConfigError(f"demonstrations to record: must be at least 1, got {count}")
    desk = desk or OperatorDesk()
    saved: list[Path] = []
    failed = failed_in_a_row = 0
    number = _next_number(folder)
    while len(saved) < count:
        desk.tell(RecordProgress(what="demonstrations", kept=len(saved), wanted=count, failed=failed))
        episode = _run_episode(loop)
        _await_veto(loop, now, sleep)
        episode[-1] = settled(episode[-1], desk)
        if episode[-1].end is EndReason.SUCCESS and not loop.is_false_success:
            path = folder / f"{STEM}{number + len(saved):04d}{SUFFIX}"
            if path.exists():
                raise DataError(f"{path} is there already: another recorder uses this folder, choose one of your own")
            save_episode(path, episode, task_digest=task_digest)
            saved.append(path)
            failed_in_a_row = 0
            logger.info("demonstration %d of %d: %d steps", len(saved), count, len(episode))
        else:
            is_stopped = episode[-1].end is EndReason.OPERATOR_STOP
            failed, failed_in_a_row = failed + 1, failed_in_a_row + (0 if is_stopped else 1)
            reason = "false_success" if loop.is_false_success else EndReason(int(episode[-1].end)).name.lower()
            logger.info("not kept: ended by %s after %d steps", reason, len(episode))
        if failed_in_a_row == MAX_FAILURES_IN_A_ROW:
            raise SerlError(
                f"{failed_in_a_row} demonstrations in a row failed; {len(saved)} of {count} are saved in {folder}. "
                "Look at the scene and the task's success condition"
            )
    desk.tell(RecordProgress(what="demonstrations", kept=len(saved), wanted=count, failed=failed))
    return Recording(tuple(saved), failed)


def _next_number(folder: Path) -> int:
    numbers = [path.name.removeprefix(STEM).removesuffix(SUFFIX) for path in folder.glob(f"{STEM}*{SUFFIX}")]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def _run_episode(loop: ActorLoop) -> list[Transition]:
    """Return the steps of the next episode that is not abandoned on its way."""
    episode = [loop.step()]
    number = loop.episode
    while episode[-1].end is EndReason.RUNNING:
        transition = loop.step()
        if loop.episode != number:  # a pause came between
            episode, number = [], loop.episode
        episode.append(transition)
    return episode


def _await_veto(loop: ActorLoop, now: Clock, sleep: Callable[[float], None]) -> None:
    """Wait until nobody can object to a success any more."""
    while loop.veto_until_s is not None and now() < loop.veto_until_s + GRACE_S:
        loop.show(Control.WAITING)
        sleep(VETO_POLL_S)
