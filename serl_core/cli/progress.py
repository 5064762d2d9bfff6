"""Live progress of a run in the terminal, read from the files the programs write."""

from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from serl_core.data.metrics_file import MetricsTail, Record


class TrainingProgress:
    """One table that follows ``metrics.jsonl`` and ``actor.jsonl`` of a run.

    Attributes:
        failure: why the training has stopped; its learner may live on for the actors.
    """

    def __init__(self, run: Path, steps: int, console: Console) -> None:
        self._steps = steps
        self._console = console
        self._learner = MetricsTail(run / "metrics.jsonl")
        self._actor = MetricsTail(run / "actor.jsonl")
        self._newest: Record = {}
        self.failure: str | None = None
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)
        self._plain_at = 0
        self._plain_every = max(min(1000, steps // 10), 1)

    def __enter__(self) -> "TrainingProgress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self) -> None:
        """Take in what is new; without a terminal, print a line now and then."""
        for record in (*self._learner.read(), *self._actor.read()):
            if record.get("kind") == "event":
                self.failure = record.get("reason") if record.get("event") == "failed" else self.failure
            else:
                self._newest |= {k: v for k, v in record.items() if v is not None}
        env_steps = int(self._newest.get("env_steps", 0))
        if not self._console.is_terminal and env_steps >= self._plain_at + self._plain_every:
            self._plain_at = env_steps - env_steps % self._plain_every
            self._console.print("  ".join(f"{name} {value}" for name, value in self._rows()), soft_wrap=True)

    def _rows(self) -> list[tuple[str, str]]:
        def number(key: str, form: str, factor: float = 1.0) -> str:
            value = self._newest.get(key)
            return "-" if value is None else format(value * factor, form)

        return [
            ("env steps", f"{number('env_steps', '.0f')} of {self._steps}"),
            ("success (20 episodes)", number("autonomous_success_20", ".0f", 100.0) + " %"),
            ("interventions (20 episodes)", number("intervention_rate_20", ".0f", 100.0) + " %"),
            ("cycle time", number("cycle_time_s_20", ".2f") + " s"),
            ("updates/s", number("updates_per_s", ".0f")),
            ("UTD", number("utd_ratio", ".1f")),
            ("loop rate", number("loop_hz", ".0f") + " Hz"),
            ("policy version", number("policy_version", ".0f")),
        ]

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, value in self._rows():
            table.add_row(name, f"[bold]{value}[/bold]")
        table.add_row("", ProgressBar(total=self._steps, completed=float(self._newest.get("env_steps", 0)), width=40))
        return table
