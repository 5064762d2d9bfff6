"""What the learner counts, for its page of metrics. Read by another thread: it looks at values and waits for nobody."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from serl_core.clock import Clock
from serl_core.metrics_text import Kind, Sample, counters

NONFINITE = "Updates skipped for a loss or a gradient, weights neither published nor saved"
GAUGES = {
    "replay_ratio": "Critic updates per transition trained on",
    "weights_version": "Of the newest weights published",
    "ckpt_bytes": "Size of the newest checkpoint",
    "ckpt_seconds": "What writing the newest checkpoint took",
}


class LearnerNumbers(NamedTuple):
    """One look at the learner."""

    link: Mapping[str, int] = {}  # of the link to the actors
    counts: Mapping[str, float] = {}  # `Learner.counters`
    env_steps: int = 0
    trained_env_steps: int = 0
    updates: int = 0
    published_s: float | None = None  # when
    nonfinite: Mapping[str, int] = {}
    alarms: Mapping[str, str] = {}
    rewards_out_of_range: int = 0
    is_stopped: bool = False  # the training has gone wrong


class LearnerMetrics:
    """Turns the learner's numbers into samples.

    Args:
        numbers: looks at the learner, from this page's thread.
        now: the learner's clock.
    """

    def __init__(self, numbers: Callable[[], LearnerNumbers], now: Clock) -> None:
        self._numbers = numbers
        self._now = now

    def samples(self) -> list[Sample]:
        """Return the numbers as they are now."""
        numbers = self._numbers()
        link = dict(numbers.link)
        received, doubled = link.pop("received", 0), link.pop("duplicate", 0)
        samples = [
            *counters("", {"transitions_received": received}, "Transitions that came for the first time"),
            *counters("", {"transitions_dup_dropped": doubled}, "Transitions that had come before"),
            *(Sample(f"link_{name}", value, "Of the link to the actors") for name, value in link.items()),
            Sample("env_steps", numbers.env_steps, "Transitions taken in"),
            Sample("trained_env_steps", numbers.trained_env_steps, "Transitions whose updates are done"),
            Sample("updates", numbers.updates, "Of the critics, since the start of the run"),
            *counters("nonfinite_", numbers.nonfinite, NONFINITE),
            *counters("", {"rewards_out_of_range": numbers.rewards_out_of_range}, "Rewards the task does not declare"),
            Sample("training_stopped", int(numbers.is_stopped), "1 once the training has gone wrong"),
        ]
        for name, value in numbers.counts.items():
            kind = Kind.GAUGE if name in GAUGES else Kind.COUNTER
            samples.append(Sample(name, value, GAUGES.get(name, "Since the start of the program"), kind))
        if numbers.published_s is not None:
            samples.append(Sample("weights_age_s", self._now() - numbers.published_s, "Since they were published"))
        for alarm in sorted(numbers.alarms):
            samples.append(Sample("alarm", 1, "Raised: nothing is published", labels={"name": alarm}))
        return samples
