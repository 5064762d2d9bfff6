"""Scores a policy alone: deterministic, on a fixed grid of start poses, with an honest interval."""

import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from actors.absence import Absence
from actors.actor import RECOVERY_POLL_S, Act, Verdict, named
from actors.video import TrialVideo
from actors.video_frame import VideoFrame, action_names
from serl_core.envs.arm_env import ArmEnv
from serl_core.errors import CameraFault, ConfigError, RobotAway
from serl_core.geometry import twist_to_local
from serl_core.statistics import wilson_interval
from serl_core.types import EndReason

logger = logging.getLogger(__name__)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of an evaluation."""

    start_pose: tuple[float, ...]  # x y z qx qy qz qw
    is_success: bool  # by the simulator's truth where there is one, else by the reward; never after a stop or a fault
    is_rewarded: bool  # the task's own judgement, such as the classifier's
    end: str
    steps: int
    cycle_s: float  # of robot time


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found."""

    task: str
    trials: int
    successes: int
    success_rate: float
    wilson_low: float
    wilson_high: float
    verdicts: dict[str, int]  # of the reward classifier, step by step, against the truth; empty without one
    median_cycle_s: float | None  # of the successes; None without any
    p90_cycle_s: float | None
    trials_detail: tuple[Trial, ...]

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))


def evaluate(
    env: ArmEnv,
    act: Act,
    starts: Sequence[Float[np.ndarray, "7"]],
    *,
    video: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Evaluation:
    """Run one episode from each start pose; nobody intervenes.

    A camera without new pictures ends its trial, as no success; the next one waits until they are back. A trial in
    which the robot gives no sign of life does not count, and is begun anew once it is back.

    Args:
        video: folder that gets an MP4 of each trial.
        sleep: waits between looks for pictures.

    Raises:
        ConfigError: there are no start poses.
        RobotFault: the robot is stopped or in a fault.
        RobotAway: the robot has been away for a minute.
        ResetError: the arm did not arrive at a start pose.
    """
    if not starts:
        raise ConfigError("an evaluation needs at least 1 trial, got 0")
    verdicts: Counter[Verdict] = Counter()
    absence = Absence(env.robot, sleep=sleep)
    trials = []
    for i, start in enumerate(starts, start=1):
        caption, film = f"trial {i} of {len(starts)}", video and video / f"trial-{i:03d}.mp4"
        trials.append(_run_whole_trial(env, act, start, verdicts, caption, film, sleep, absence))
    cycles_s = [trial.cycle_s for trial in trials if trial.is_success]
    low, high = wilson_interval(len(cycles_s), len(trials))
    return Evaluation(
        task=env.task.config.name,
        trials=len(trials),
        successes=len(cycles_s),
        success_rate=len(cycles_s) / len(trials),
        wilson_low=low,
        wilson_high=high,
        verdicts=named(verdicts),
        median_cycle_s=statistics.median(cycles_s) if cycles_s else None,
        p90_cycle_s=float(np.quantile(cycles_s, 0.9)) if cycles_s else None,
        trials_detail=tuple(trials),
    )


def _run_whole_trial(
    env: ArmEnv,
    act: Act,
    start: Float[np.ndarray, "7"],
    verdicts: Counter[Verdict],
    caption: str,
    video: Path | None,
    sleep: Callable[[float], None],
    absence: Absence,
) -> Trial:
    """Run a trial, and again from its start as often as the robot went away in it."""
    while True:
        before = verdicts.copy()
        try:
            trial = _run_trial(env, act, start, verdicts, caption, video, sleep)
        except RobotAway as away:
            verdicts.clear()
            verdicts.update(before)
            absence.wait(away)
        else:
            absence.is_over()
            return trial


def _run_trial(
    env: ArmEnv,
    act: Act,
    start: Float[np.ndarray, "7"],
    verdicts: Counter[Verdict],
    caption: str,
    video: Path | None,
    sleep: Callable[[float], None],
) -> Trial:
    with TrialVideo(video, fps=env.task.config.control_hz) if video is not None else nullcontext() as film:
        _reset(env, start, sleep)
        end, truth = EndReason.RUNNING, None
        while end is EndReason.RUNNING:
            action = act(env.observation)
            _, _, _, _, info = env.step(action)
            end, truth = info["end"], info["truth"]
            if info["is_classified"] is not None and truth is not None:
                verdicts[Verdict(info["is_classified"], truth)] += 1
            if film is not None:
                film.add(_video_frame(env, action, info, caption))
    is_rewarded = end is EndReason.SUCCESS
    return Trial(
        start_pose=tuple(start.tolist()),
        is_success=is_rewarded if truth is None else truth and (end.is_terminal or end is EndReason.TIME_LIMIT),
        is_rewarded=is_rewarded,
        end=end.name.lower(),
        steps=env.steps,
        cycle_s=env.steps / env.task.config.control_hz,
    )


def _reset(env: ArmEnv, start: Float[np.ndarray, "7"], sleep: Callable[[float], None]) -> None:
    """Begin an episode at `start`; while a camera has no new picture, wait: a reset without moves nothing."""
    is_waiting = False
    while True:
        try:
            env.reset(options={"start_pose": start})
        except CameraFault as fault:
            if not is_waiting:
                logger.error("%s; waiting", fault)
            is_waiting = True
            sleep(RECOVERY_POLL_S)
        else:
            if is_waiting:
                logger.info("the cameras are back")
            return


def _video_frame(env: ArmEnv, action: NDArray[np.float32], info: dict[str, Any], caption: str) -> VideoFrame:
    wrench = twist_to_local(np.array(env.state.tcp_pose[3:]), np.array(env.state.tcp_wrench))
    return VideoFrame(
        images=env.observation.images,
        action=action,
        force_n=wrench[:3],
        torque_nm=wrench[3:],
        success_probability=info["success_probability"],
        success_threshold=env.success_threshold,
        is_intervention=False,
        step=env.steps,
        caption=caption,
        action_names=action_names(env.action_spec),
    )
