"""From probabilities to decisions: the consecutive-frames rule, the threshold, and how often both are wrong."""

import math

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int

from serl_core.errors import DataError
from serl_core.statistics import Rate

MOST_THRESHOLD = 0.9999  # a threshold that hardly any frame can reach is no success detector

Probability = Float[np.ndarray, " n"]
Label = Bool[np.ndarray, " n"]
Run = Int[np.ndarray, " n"]


class Scores(msgspec.Struct, frozen=True):
    """How decisions compare with labels, frame by frame."""

    accuracy: Rate
    false_positive: Rate  # of the negative frames
    false_negative: Rate  # of the positive frames

    @property
    def confusion(self) -> dict[str, int]:
        """The four counts."""
        negative, positive = self.false_positive, self.false_negative
        return {
            "true_positive": positive.total - positive.count,
            "false_negative": positive.count,
            "false_positive": negative.count,
            "true_negative": negative.total - negative.count,
        }


class ReliabilityBin(msgspec.Struct, frozen=True):
    """The frames whose probability is in one tenth of 0..1, or whatever share was asked for."""

    mean_probability: float
    positive: Rate


def sustained(probability: Probability, run: Run, frames: int) -> Probability:
    """Return for each frame the lowest probability of it and the `frames` - 1 before it; 0 while there are fewer.

    "Above the threshold for `frames` frames in a row" is then "sustained probability above the threshold".

    Args:
        run: frames with the same number next to each other follow each other in time without a gap.
        frames: at least 1.
    """
    lowest = probability.copy()
    for back in range(1, frames):
        lowest[:back] = 0.0
        is_together = run[back:] == run[:-back]
        lowest[back:] = np.where(is_together, np.minimum(lowest[back:], probability[:-back]), 0.0)
    return lowest


def choose_threshold(sustained_negative: Probability, target_rate: float, *, least: float) -> float:
    """Return the smallest threshold at which at most `target_rate` of the negative frames pass for a success.

    Args:
        sustained_negative: of the negative validation frames.
        least: it is never below this, for with few negatives, all of them scored low, the smallest says
            little. The share of positive frames is a good one: from there on a frame is likelier to be a
            success than before anyone looked at it.

    Raises:
        DataError: even frames that the classifier is sure of are too often negative.
    """
    allowed = int(target_rate * sustained_negative.size)
    highest = np.sort(sustained_negative)[::-1]
    threshold = least
    if allowed < highest.size:
        threshold = max(threshold, float(np.nextafter(highest[allowed], 2.0)))
    if threshold > MOST_THRESHOLD:
        raise DataError(
            f"no threshold keeps the false-positive rate at {target_rate:.2%}: {allowed + 1} of "
            f"{sustained_negative.size} negative validation frames have a success probability of "
            f"{highest[allowed]:.5f} or more. Review their labels, record more frames like them, or allow a higher rate"
        )
    return threshold


def away_from_both(least: float, sustained_positive: Probability, lost_rate: float = 0.05) -> float:
    """Return the threshold half way, in log-odds, between `least` and where the positive frames begin.

    A policy searches for what is rewarded and finds frames that no recording had, so a threshold that just
    keeps the recorded negatives out lets some of those in.

    Args:
        sustained_positive: of the positive validation frames at which the rule could have fired.
        lost_rate: of these may lie below where they begin.
    """
    if not sustained_positive.size:
        return least
    begin = np.sort(sustained_positive)[int(lost_rate * sustained_positive.size)]
    odds = [math.log(p / (1.0 - p)) for p in np.clip([least, max(least, begin)], 1e-6, MOST_THRESHOLD)]
    return max(least, 1.0 / (1.0 + math.exp(-sum(odds) / 2)))


def score(is_detected: Label, is_success: Label) -> Scores:
    """Compare decisions with labels."""
    positives = int(is_success.sum())
    wrong = is_detected != is_success
    return Scores(
        accuracy=Rate.of(int((~wrong).sum()), is_success.size),
        false_positive=Rate.of(int((wrong & ~is_success).sum()), is_success.size - positives),
        false_negative=Rate.of(int((wrong & is_success).sum()), positives),
    )


def score_sustained(probability: Probability, is_success: Label, run: Run, *, frames: int, threshold: float) -> Scores:
    """Compare the consecutive-frames rule with the labels.

    Leaves out the first frames of each success, before the rule could have fired: they are a delay,
    not an error.
    """
    settled = sustained(is_success.astype(np.float64), run, frames) > 0.0
    counts = settled | ~is_success
    is_detected = sustained(probability, run, frames) >= threshold
    return score(is_detected[counts], is_success[counts])


def reliability(probability: Probability, is_success: Label, bins: int = 10) -> list[ReliabilityBin]:
    """Return how often frames of about the same probability were positive; empty bins are left out."""
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return [
        ReliabilityBin(float(probability[inside].mean()), Rate.of(int(is_success[inside].sum()), int(inside.sum())))
        for inside in (index == i for i in range(bins))
        if inside.any()
    ]
