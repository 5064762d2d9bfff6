"""The part of a run's report that shows what the policy saw, and how good the reward classifier was."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from serl_core.data.episode_file import SUFFIX, episode_paths, load_episode, load_header
from serl_core.data.metrics_file import read_metrics
from serl_core.types import Transition

VERDICTS = ("true_positive", "false_positive", "false_negative", "true_negative")


def encoder_of(folder: Path) -> str:
    """Return the identity of the frozen encoder that a folder of demonstrations was recorded with; empty if none."""
    return load_header(episode_paths(folder)[0]).task_digest.partition("+")[2]


def classifier_line(folder: Path) -> str:
    """Return the validation result of the classifier in a folder, in one line."""
    report = json.loads((folder / "report.json").read_text())
    single, rule = report["single"], report["in_a_row"]
    return (
        f"reward classifier: validation accuracy {_percent(single['accuracy'])} frame by frame, false positives "
        f"{_percent(rule['false_positive'])} and false negatives {_percent(rule['false_negative'])} with "
        f"{report['frames']} frames in a row"
    )


def vision_sections(run: Path, evaluation: dict[str, Any]) -> list[str]:
    """Return the sections in HTML; none for a run without images."""
    demos = run / "demos"
    if not any(demos.glob(f"*{SUFFIX}")) or not encoder_of(demos):
        return []
    parts = [
        "<h2>What the policy sees</h2>",
        f"<p>A demonstration at its start, half way and at its end. Frozen encoder "
        f"<code>{html.escape(encoder_of(demos))}</code>.</p>",
        _pictures(load_episode(episode_paths(demos)[0])),
    ]
    folder = run / "classifier"
    if (folder / "report.json").exists():
        picture = base64.b64encode((folder / "reliability.png").read_bytes()).decode()
        parts += [
            "<h2>The reward classifier</h2>",
            f"<p>{html.escape(classifier_line(folder).capitalize())}.</p>",
            _confusion(run, folder, evaluation),
            f'<img alt="Reliability of the classifier" src="data:image/png;base64,{picture}">',
        ]
    return parts


def _pictures(episode: list[Transition]) -> str:
    moments = {
        "start": episode[0].observation,
        "half way": episode[len(episode) // 2].observation,
        "end": episode[-1].next_observation,
    }
    figures = []
    for when, observation in moments.items():
        for name, frame in observation.frames.items():
            data = frame.tobytes()
            kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
            picture = base64.b64encode(data).decode()
            figures.append(
                f'<figure><img alt="{html.escape(name)}, {when}" src="data:image/{kind};base64,{picture}">'
                f"<figcaption>{html.escape(name)}, {when}</figcaption></figure>"
            )
    return f'<div class="pixels">{"".join(figures)}</div>'


def _confusion(run: Path, folder: Path, evaluation: dict[str, Any]) -> str:
    """Return the confusion matrices against the simulator's truth, frame by frame."""
    rows = {"Training": _training_verdicts(run), "Evaluation of the policy": evaluation.get("verdicts") or {}}
    validation = json.loads((folder / "report.json").read_text())["confusion"]["single"]
    rows = {"Validation of the classifier": validation, **rows}
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in VERDICTS)
    body = "".join(
        f"<tr><td>{title}</td>" + "".join(f'<td class="n">{counts[name]}</td>' for name in VERDICTS) + "</tr>"
        for title, counts in rows.items()
        if counts
    )
    return (
        "<p>Against the simulator's truth, frame by frame: positive is what the classifier calls a success.</p>"
        f"<table><tr><th></th>{head}</tr>{body}</table>"
    )


def _training_verdicts(run: Path) -> dict[str, int]:
    """Return the counts of all sessions of all actors: each starts from 0 and counts up."""
    counted = [record for record in read_metrics(run / "actor.jsonl") if "classifier_true_positive" in record]
    last = {record["session"]: record for record in counted}.values()
    return {name: sum(record[f"classifier_{name}"] for record in last) for name in VERDICTS} if last else {}


def _percent(rate: dict[str, Any]) -> str:
    return "none" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %"
