"""What the actor counts, for its page of metrics. Read by another thread: it looks at values, and waits for nobody."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from actors.cameras.interface import Frame
from serl_core.clock import Clock
from serl_core.metrics_text import Kind, Sample, counters

ALARMS = "Since this program began: what was sensed could not be believed, or the robot was away"
STREAM = "Transitions, since this program began; made = acked + spooled + quarantined + dropped"


class ActorNumbers(NamedTuple):
    """One look at the actor, taken between two of its steps, so that its numbers fit together."""

    transitions: Mapping[str, int] = {}  # of the sender
    weights_version: int = 0
    adopted_s: float | None = None  # when
    refused_weights: int = 0
    late_ticks: int = 0
    alarms: Mapping[str, int] = {}  # `ActorLoop.alarms`


class ActorMetrics:
    """Turns what the actor noted last into samples.

    Args:
        now: the actor's clock.
        frames: the newest frame of each camera, also from another thread.
        teleop_age_s: since the newest report of the person's device; None where it has none.
    """

    def __init__(
        self,
        now: Clock,
        *,
        frames: Callable[[], Mapping[str, Frame]] = dict,
        teleop_age_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.numbers = ActorNumbers()
        self._now = now
        self._frames = frames
        self._teleop_age_s = teleop_age_s

    def samples(self) -> list[Sample]:
        """Return the numbers as they were noted last, and the ages as they are now."""
        numbers = self.numbers
        counts = {name.replace("acknowledged", "acked"): count for name, count in numbers.transitions.items()}
        spooled = counts.pop("spooled", 0)
        samples = [
            *counters("transitions_", counts, STREAM),
            Sample("transitions_spooled", spooled, STREAM),
            Sample("weights_version", numbers.weights_version, "Of the weights that act"),
            *counters("", {"nonfinite_weights": numbers.refused_weights}, "Weights that were not adopted"),
            *counters("", {"late_ticks": numbers.late_ticks}, "Control steps that came late"),
            *counters("", numbers.alarms, ALARMS),
        ]
        if numbers.adopted_s is not None:
            samples.append(Sample("weights_age_s", self._now() - numbers.adopted_s, "Since they were adopted"))
        for camera, frame in sorted(self._frames().items()):
            age_ms = 1e3 * (self._now() - frame.captured_s)
            samples.append(Sample("frame_age_ms", age_ms, "Of a camera's newest picture", Kind.GAUGE, {"cam": camera}))
        age_s = self._teleop_age_s()
        if age_s is not None:
            samples.append(Sample("teleop_age_ms", 1e3 * age_s, "Since the newest report of the person's device"))
        return samples
