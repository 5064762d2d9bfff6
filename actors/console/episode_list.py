"""The past episodes of a run, as the page lists them: how each ended, and what a person has made of it since."""

from typing import Any

from actors.console.run_feed import RunFeed
from actors.console.tail import Record
from serl_core.data.relabels import Episode, Label, RelabelFile, label_of


class EpisodeList:
    """Puts together the learner's records and people's corrections.

    Args:
        feed: of the run.
        relabels: the run's corrections.
        has_pictures: whether its log has frames.
    """

    def __init__(self, feed: RunFeed, relabels: RelabelFile, *, has_pictures: bool) -> None:
        self._feed = feed
        self._relabels = relabels
        self._has_pictures = has_pictures

    def view(self) -> dict[str, Any]:
        """Return all, the newest first, and whether there is a correction to take back."""
        labels = self._labels()
        listed = [self._entry(record, labels) for record in reversed(self._feed.episodes)]
        return {"episodes": listed, "can_undo": self._relabels.can_undo}

    def entry(self, record: Record) -> dict[str, Any]:
        """Return the entry of one record; see `is_episode`."""
        return self._entry(record, self._labels())

    def find(self, session: str, episode: int) -> dict[str, Any] | None:
        """Return the entry of one episode; None when it is not in the list."""
        for record in reversed(self._feed.episodes):
            if record["session"] == session and record["episode"] == episode:
                return self.entry(record)
        return None

    def _labels(self) -> dict[Episode, Label | None]:
        lines = self._relabels.read()
        return {episode: label_of(episode, lines) for episode in {(line.session, line.episode) for line in lines}}

    def _entry(self, record: Record, labels: dict[Episode, Label | None]) -> dict[str, Any]:
        fields = {name: value for name, value in slim(record).items() if name != "kind"}
        episode = (record["session"], record["episode"])
        return {
            **fields,
            "id": f"{episode[0]}-{episode[1]}",
            "label": labels.get(episode),
            "has_thumbnail": self._has_pictures,
        }


def slim(record: Record) -> Record:
    """Return a record without its lists: a browser draws numbers."""
    return {name: value for name, value in record.items() if not isinstance(value, (list, dict))}
