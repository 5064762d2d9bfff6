"""Turns the stream of transitions into the episode records of `metrics.jsonl`."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from serl_core.data.metrics_file import Record
from serl_core.data.relabels import Label
from serl_core.types import EndReason, Transition

WINDOW = 20  # episodes of a running mean, as in the paper


@dataclass
class _Episode:
    number: int
    length_steps: int = 0
    interventions: int = 0


class EpisodeTracker:
    """Turns the stream of transitions into one record per finished episode, with running means.

    Args:
        control_hz: of the steps.
        told: the records of a start before; their episodes are not told again.
    """

    def __init__(self, control_hz: float, told: Sequence[Record] = ()) -> None:
        self.told = {(record["session"], record["episode"]) for record in told}
        self._control_hz = control_hz
        self._open: dict[str, _Episode] = {}  # by session
        self._window = deque((_of_window(record) for record in told[-WINDOW:]), maxlen=WINDOW)

    def add(self, transition: Transition, env_steps: int) -> Record | None:
        """Take in the step that was the `env_steps`-th of the run; return the record of an untold episode it ends."""
        provenance = transition.provenance
        assert provenance is not None
        episode = self._open.get(provenance.session)
        if episode is None or episode.number != provenance.episode:  # the one before was abandoned
            episode = self._open[provenance.session] = _Episode(provenance.episode)
        episode.length_steps += 1
        episode.interventions += bool(transition.is_intervention)
        end = EndReason(int(transition.end))
        if end is EndReason.RUNNING:
            return None
        del self._open[provenance.session]
        if (provenance.session, provenance.episode) in self.told:
            return None
        record = {
            "env_steps": env_steps,
            "episode": provenance.episode,
            "session": provenance.session,
            "is_success": end is EndReason.SUCCESS,
            "length_steps": episode.length_steps,
            "intervention_rate": episode.interventions / episode.length_steps,
            "end": end.name.lower(),
        }
        self._window.append(_of_window(record))
        return record | self._running_means()

    def relabel(self, session: str, episode: int, label: Label | None) -> None:
        """Correct an episode of the running means, if it is still among them; None takes that back."""
        for record in self._window:
            if (record["session"], record["episode"]) == (session, episode):
                record["is_success"] = record["was_success"] if label is None else label == "success"

    def _running_means(self) -> Record:
        successes = [record for record in self._window if record["is_success"]]
        alone = [record for record in successes if record["intervention_rate"] == 0]
        steps = sum(record["length_steps"] for record in successes)
        count = len(self._window)
        return {
            "success_20": len(successes) / count,
            "autonomous_success_20": len(alone) / count,
            "intervention_rate_20": sum(record["intervention_rate"] for record in self._window) / count,
            "cycle_time_s_20": steps / len(successes) / self._control_hz if successes else None,
        }


def _of_window(record: Record) -> Record:
    return record | {"was_success": record["is_success"]}
