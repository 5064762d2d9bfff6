"""The demo over several seeds, one after the other: the README's result and its picture.

`python benchmarks/demo_seeds.py --obs pixels --seeds 0 1 2 --folder runs/seeds` runs what is not there yet, prints
a line per seed, and draws the learning curves of all into `docs/pictures/learning-pixels.png`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

PICTURES = Path("docs/pictures")
COLOURS = ("#2456a6", "#b36b00", "#1f7a4d", "#8a3ffc", "#b3261e")


def run(obs: str, seed: int, folder: Path) -> Path:
    """Run the demo of one seed unless its summary is there; return the run's folder."""
    path = folder / f"{obs}-seed{seed}"
    if not (path / "summary.json").exists():
        demo = ["demo", "--obs", obs, "--seed", str(seed), "--run", str(path)]
        subprocess.run([sys.executable, "-m", "serl_core.cli.main", *demo], check=False)
    return path


def episodes(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run's episodes."""
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "episode"]


def first_perfect(path: Path) -> int | None:
    """Return the environment steps after which 20 episodes in a row had succeeded without an intervention."""
    return next(
        (r["env_steps"] for r in episodes(path) if r["episode"] >= 19 and r["autonomous_success_20"] == 1), None
    )


def draw(runs: list[Path], picture: Path) -> None:
    """Draw success, interventions and cycle time over the environment steps, a colour per seed."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = figure.subplots(1, 3)
    curves = (
        ("Success of the policy alone, %", "autonomous_success_20", 100.0),
        ("Steps intervened, %", "intervention_rate_20", 100.0),
        ("Cycle time, s", "cycle_time_s_20", 1.0),
    )
    for axes, (title, key, factor) in zip(panels, curves, strict=True):
        for path, colour in zip(runs, COLOURS, strict=False):
            records = episodes(path)
            points = [(r["env_steps"], factor * r[key]) for r in records if r.get(key) is not None]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.3, label=path.name.partition("-")[2])
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("environment steps", fontsize=9)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MultipleLocator(4000))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    demonstrations = [json.loads((path / "summary.json").read_text())["demonstration_cycle_s"] for path in runs]
    mean_s = sum(demonstrations) / len(demonstrations)
    panels[2].axhline(mean_s, color="#777", linestyle="--", linewidth=1)
    panels[2].annotate(
        "demonstrations",
        (0, mean_s),
        xytext=(0.98, mean_s),
        textcoords=("axes fraction", "data"),
        fontsize=8,
        ha="right",
        va="bottom",
    )
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--obs", choices=("pixels", "state"), default="pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    args = parser.parse_args()
    runs = [run(args.obs, seed, args.folder) for seed in args.seeds]
    for path in runs:
        summary = {**json.loads((path / "summary.json").read_text()), "first_20_in_a_row": first_perfect(path)}
        print(path, json.dumps(summary))
    draw(runs, PICTURES / f"learning-{args.obs}.png")


if __name__ == "__main__":
    main()
