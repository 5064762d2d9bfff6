"""The newest move or joint reset as its client sees it."""

from collections.abc import Callable

from serl_core.robots.messages import Job


class Jobs:
    """One job at a time; older ones are forgotten.

    Attributes:
        newest: None before the first.
    """

    def __init__(self, on_event: Callable[[str, str], None]) -> None:
        """Store who is told of the end of each: (kind, how)."""
        self.newest: Job | None = None
        self._on_event = on_event

    def begin(self, kind: str) -> Job:
        """Begin one."""
        self.newest = Job(id=1 if self.newest is None else self.newest.id + 1, kind=kind, state="running")
        return self.newest

    def finish(self, state: str, detail: str, cause: str = "") -> None:
        """End the one that runs, if there is one."""
        job = self.newest
        if job is not None and job.state == "running":
            self._on_event(job.kind, f"{state} {detail}".rstrip())
            self.newest = Job(id=job.id, kind=job.kind, state=state, detail=detail, cause=cause)
