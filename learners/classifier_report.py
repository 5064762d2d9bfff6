"""How good a reward classifier is: scored on labelled episodes, as lines, as JSON and as a reliability curve."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from serl_core.agents.detection import (
    ReliabilityBin,
    Scores,
    away_from_both,
    choose_threshold,
    reliability,
    score,
    score_sustained,
    sustained,
)
from serl_core.data.labelled_frames import LabelledFrames
from serl_core.errors import DataError
from serl_core.statistics import Rate

REPORT, RELIABILITY = "report.json", "reliability.png"

Heights = tuple[float, float] | None  # of the tool in m: the lowest and the highest at which there is success


class ClassifierReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier does on episodes that it was not trained on."""

    threshold: float
    frames: int  # in a row
    single: Scores  # each frame by itself
    in_a_row: Scores  # by the rule that the environment uses
    false_success: Rate  # of the episodes with negative frames: the rule fired on one of them
    failure_called_success: Rate  # of the episodes without a success: with the heights it would have ended as one
    reliability: list[ReliabilityBin]

    def lines(self) -> list[str]:
        """Return the result in a few lines."""
        return [
            f"threshold {self.threshold:.3f}, {self.frames} frames in a row",
            f"accuracy, frame by frame: {self.single.accuracy}",
            f"false positives, of the negative frames: {self.in_a_row.false_positive}; "
            f"frame by frame {self.single.false_positive}",
            f"false negatives, of the positive frames: {self.in_a_row.false_negative}; "
            f"frame by frame {self.single.false_negative}",
            f"episodes with a false success: {self.false_success}",
            f"episodes without a success that would have ended as one, heights included: {self.failure_called_success}",
        ]

    def write(self, folder: Path) -> None:
        """Write `report.json` and `reliability.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        confusion = {"single": self.single.confusion, "in_a_row": self.in_a_row.confusion}
        text = msgspec.json.encode({**msgspec.to_builtins(self), "confusion": confusion})
        (folder / REPORT).write_bytes(msgspec.json.format(text, indent=2))
        draw_reliability(folder / RELIABILITY, self.reliability, self.threshold)


def threshold_for(
    episodes: Sequence[LabelledFrames],
    probability: NDArray[np.float64],
    *,
    frames: int,
    target_rate: float,
    least: float,
) -> float:
    """Return a threshold at which at most `target_rate` of the negative frames pass for a success.

    It is half way from the smallest such one to where the positive frames begin. Args: see `choose_threshold`.

    Raises:
        DataError: `choose_threshold` finds none, or no success has `frames` positive frames in a row: the rule could
            never fire on one, and nothing would say how many successes it misses.
    """
    label, run = all_labels(episodes), _runs(episodes)
    lowest = sustained(probability, run, frames)
    is_settled = sustained(label.astype(np.float64), run, frames) > 0.0
    smallest = choose_threshold(lowest[~label], target_rate, least=least)
    if not is_settled.any():
        raise DataError(
            f"no success of the validation episodes has {frames} positive frames in a row (RewardConfig.frames): keep "
            "the task done for longer while recording, record more successes, or lower RewardConfig.frames"
        )
    return away_from_both(smallest, lowest[is_settled])


def assess(
    episodes: Sequence[LabelledFrames],
    probability: NDArray[np.float64],
    *,
    frames: int,
    threshold: float,
    tcp_z_m: Heights = None,
) -> ClassifierReport:
    """Score probabilities against labels.

    Args:
        probability: of all the episodes' frames, one after the other.
        tcp_z_m: of the task's RewardConfig: no success where the tool is lower or higher.
    """
    label, run = all_labels(episodes), _runs(episodes)
    lowest = sustained(probability, run, frames)
    episode = np.repeat(np.arange(len(episodes)), [e.is_success.size for e in episodes])
    fired = np.unique(episode[(lowest >= threshold) & ~label])
    failures = np.setdiff1d(episode, episode[label])
    rewarded = episode[sustained(_at_height(episodes, probability, tcp_z_m), run, frames) >= threshold]
    return ClassifierReport(
        threshold=threshold,
        frames=frames,
        single=score(probability >= threshold, label),
        in_a_row=score_sustained(probability, label, run, frames=frames, threshold=threshold),
        false_success=Rate.of(fired.size, np.unique(episode[~label]).size),
        failure_called_success=Rate.of(np.intersect1d(failures, rewarded).size, failures.size),
        reliability=reliability(probability, label),
    )


def draw_reliability(path: Path, bins: Sequence[ReliabilityBin], threshold: float) -> None:
    """Write the reliability curve with 95 % intervals, and the frames per bin, as a PNG."""
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    curve, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    x = [entry.mean_probability for entry in bins]
    rates = np.array([(e.positive.low_95, e.positive.rate, e.positive.high_95) for e in bins], np.float64)
    curve.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=1.0, linestyle="--")
    curve.errorbar(x, rates[:, 1], yerr=np.abs(np.diff(rates, axis=1)).T, color="#2456a6", marker="o", capsize=3)
    curve.axvline(threshold, color="#b36b00", linewidth=1.2)
    note = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right", "color": "#b36b00"}
    curve.annotate(f"threshold {threshold:.2f}", (threshold, 0.02), **note)
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="positive frames, fraction")
    curve.set_title("reliability on episodes not trained on", fontsize=11, loc="left")
    counts.bar(x, [entry.positive.total for entry in bins], width=0.03, color="#2456a6")
    counts.set(yscale="log", xlabel="predicted probability of success", ylabel="frames")
    figure.savefig(path, dpi=110)


def all_labels(episodes: Sequence[LabelledFrames]) -> NDArray[np.bool_]:
    """Return the labels of the episodes' frames, one after the other."""
    return np.concatenate([episode.is_success for episode in episodes])


def _at_height(
    episodes: Sequence[LabelledFrames], probability: NDArray[np.float64], tcp_z_m: Heights
) -> NDArray[np.float64]:
    """Return the probabilities, 0 where the tool is too low or too high for a success."""
    low_m, high_m = tcp_z_m or (-math.inf, math.inf)
    z_m = np.concatenate([episode.tcp_pose[:, 2] for episode in episodes])
    return np.where((z_m >= low_m) & (z_m <= high_m), probability, 0.0)


def _runs(episodes: Sequence[LabelledFrames]) -> NDArray[np.int64]:
    """Return a number per frame that changes between episodes and where frames were left out."""
    return np.cumsum(np.concatenate([np.concatenate([[1], np.diff(episode.run)]) for episode in episodes]))
