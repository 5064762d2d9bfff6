"""What a run has to tell: one JSON object a line in `metrics.jsonl`, of kind episode, update or event."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serl_core.types import EndReason, Transition

Record = dict[str, Any]
WINDOW = 20  # episodes of a running mean, as in the paper


class MetricsWriter:
    """Appends records to a file, on a new line after a torn one; each is in the file when the call returns."""

    def __init__(self, path: Path) -> None:
        is_torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a", encoding="utf-8")
        if is_torn:
            self._file.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, kind: str, record: Record) -> None:
        """Append one record, with the wall time."""
        self._file.write(json.dumps({"kind": kind, "time": round(time.time(), 3), **record}) + "\n")
        self._file.flush()


def read_metrics(path: Path) -> Iterator[Record]:
    """Yield the whole lines of a metrics file; a line torn by a crash is passed over. None if there is no file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


@dataclass
class _Episode:
    number: int
    length_steps: int = 0
    interventions: int = 0


@dataclass
class EpisodeTracker:
    """Turns the stream of transitions into one record per finished episode, with running means."""

    control_hz: float
    _open: dict[str, _Episode] = field(default_factory=dict)  # by session
    _window: deque[Record] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, transition: Transition, env_steps: int) -> Record | None:
        """Take in the step that was the `env_steps`-th of the run; return the record of an episode it ends."""
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
        record = {
            "env_steps": env_steps,
            "episode": provenance.episode,
            "session": provenance.session,
            "is_success": end is EndReason.SUCCESS,
            "length_steps": episode.length_steps,
            "intervention_rate": episode.interventions / episode.length_steps,
            "end": end.name.lower(),
        }
        self._window.append(record)
        return record | self._running_means()

    def _running_means(self) -> Record:
        successes = [record for record in self._window if record["is_success"]]
        alone = [record for record in successes if record["intervention_rate"] == 0]
        steps = sum(record["length_steps"] for record in successes)
        count = len(self._window)
        return {
            "success_20": len(successes) / count,
            "autonomous_success_20": len(alone) / count,
            "intervention_rate_20": sum(record["intervention_rate"] for record in self._window) / count,
            "cycle_time_s_20": steps / len(successes) / self.control_hz if successes else None,
        }
