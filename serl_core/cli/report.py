"""Writes a run's `report.html`: one file, pictures inside, every number read from the run's own files."""

import base64
import html
import io
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure

from serl_core.cli.report_vision import vision_sections
from serl_core.data.episode_log import load_episodes
from serl_core.data.metrics_file import read_metrics
from serl_core.errors import DataError

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid #dde3ea}
td.n{font-variant-numeric:tabular-nums;text-align:right}img{max-width:100%}pre{background:#f4f6f8;padding:1rem;overflow:auto}
.grid{display:flex;flex-wrap:wrap;gap:4px}.cell{width:2.2rem;text-align:center;border-radius:3px;font-size:.8rem;color:#fff}
.pixels{display:flex;gap:8px;margin:.6rem 0}.pixels figure{margin:0}.pixels img{width:192px;image-rendering:pixelated}
figcaption{font-size:.8rem;color:#5a6675}
.ok{background:#1f7a4d}.bad{background:#b3261e}
"""


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """Write the report of a run anew."""

    run: Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to: `summary.json`. Cycle times are robot time, of successful trials."""

    task: str
    seed: int
    successes: int
    trials: int
    success_rate: float
    success_low_95: float
    success_high_95: float
    cycle_s_median: float | None  # None without a success
    cycle_s_p90: float | None
    demonstration_cycle_s: float
    environment_steps: int
    robot_minutes: float  # of the environment steps
    robot_minutes_in_all: float  # with demonstrations and resets
    training_wall_minutes: float
    wall_minutes: float

    def lines(self) -> list[str]:
        """Return the result in three lines."""
        cycle = "cycle time: none succeeded"
        if self.cycle_s_median is not None:
            cycle = (
                f"cycle time {self.cycle_s_median:.1f} s, demonstrations {self.demonstration_cycle_s:.1f} s: "
                f"{self.cycle_s_median / self.demonstration_cycle_s:.2f} x"
            )
        return [
            f"success {self.successes}/{self.trials} = {self.success_rate:.0%} "
            f"(95 % interval {self.success_low_95:.1%} to {self.success_high_95:.1%})",
            cycle,
            f"robot minutes {self.robot_minutes:.1f} ({self.robot_minutes_in_all:.1f} with demonstrations and resets), "
            f"wall minutes {self.wall_minutes:.1f}",
        ]


def run_report(args: ReportArgs) -> None:
    """Write `report.html` into the run's folder and say where it is."""
    print(write_report(args.run))


def write_report(run: Path) -> Path:
    """Write `report.html` from metrics.jsonl, eval.json, summary.json and the demonstrations.

    Raises:
        DataError: the run has no metrics.jsonl.
    """
    if not (run / "metrics.jsonl").exists():
        raise DataError(f"{run / 'metrics.jsonl'}: no such file; a run's folder has one after training has begun")
    episodes = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "episode"]
    summary = json.loads((run / "summary.json").read_text()) if (run / "summary.json").exists() else {}
    evaluation = json.loads((run / "eval.json").read_text()) if (run / "eval.json").exists() else {}
    demo_cycle_s = summary.get("demonstration_cycle_s")
    parts = [
        f"<h1>{html.escape(run.name)}</h1>",
        _summary_table(summary or {k: v for k, v in evaluation.items() if k not in ("trials_detail", "verdicts")}),
        "<h2>Training</h2>",
        "<p>Running means over 20 episodes, as in the paper. An episode counts as a success of the policy only if "
        "nobody intervened in it.</p>",
        *(
            f'<img alt="{html.escape(title)}" src="data:image/png;base64,{picture}">'
            for title, picture in _curves(episodes, demo_cycle_s)
        ),
        *vision_sections(run, evaluation),
        "<h2>Evaluation, trial by trial</h2>",
        _trials(evaluation),
        "<h2>Task</h2>",
        f"<pre>{html.escape(_text(run / 'task.json'))}</pre>",
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.name)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    path = run / "report.html"
    path.write_text(page)
    return path


def demonstration_cycle_s(folder: Path, control_hz: float) -> float:
    """Return the median cycle time of the demonstrations in a folder, in seconds of robot time."""
    return statistics.median(len(episode) for episode in load_episodes(folder)) / control_hz


def _summary_table(summary: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name.replace("_", " "))}</td><td class="n">{html.escape(_number(value))}</td></tr>'
        for name, value in summary.items()
    )
    return f"<table>{rows}</table>"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "none" if value is None else str(value)


def _curves(episodes: list[dict[str, Any]], demo_cycle_s: float | None) -> list[tuple[str, str]]:
    steps = [record["env_steps"] for record in episodes]
    curves = [
        ("Success rate of the policy alone, %", "autonomous_success_20", 100.0, (-3.0, 103.0), None),
        ("Intervention rate, % of steps", "intervention_rate_20", 100.0, (-3.0, 103.0), None),
        ("Cycle time, s", "cycle_time_s_20", 1.0, None, demo_cycle_s),
    ]
    pictures = []
    for title, key, factor, limits, reference in curves:
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        axes = figure.subplots()
        values = [float("nan") if record.get(key) is None else factor * record[key] for record in episodes]
        axes.plot(steps, values, color="#2456a6", linewidth=1.6)
        if reference is not None:
            axes.axhline(reference, color="#b36b00", linewidth=1.2, linestyle="--")
            axes.annotate("demonstrations", (0, reference), xytext=(4, 3), textcoords="offset points", color="#b36b00")
            axes.set_ylim(bottom=0)
        if limits:
            axes.set_ylim(*limits)
        axes.set_xlim(left=0)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("environment steps", fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        pictures.append((title, base64.b64encode(buffer.getvalue()).decode()))
    return pictures


def _trials(evaluation: dict[str, Any]) -> str:
    cells = "".join(
        f'<div class="cell {"ok" if trial["is_success"] else "bad"}" title="trial {i}">{trial["cycle_s"]:.1f}</div>'
        for i, trial in enumerate(evaluation.get("trials_detail", []))
    )
    return f'<p>Seconds of robot time, green where the policy succeeded.</p><div class="grid">{cells}</div>'


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
