"""The demo task learnt with one frozen encoder or another: what a pre-trained one is worth.

`python benchmarks/encoder_comparison.py --encoders small random --seeds 100 101 --steps 8000` trains in one
process per encoder and seed, as `serl train --sync` does, with the simulator's truth as the reward, and
scores the final policy on 30 start poses that the demo's evaluation leaves out.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from actors.evaluate import evaluate
from actors.main import load_acting_policy
from examples.ram_insertion_pixels import TASK
from serl_core.cli.demo import RECIPES, Observations
from serl_core.cli.train import TrainArgs, open_env, train
from serl_core.config import RewardConfig
from serl_core.envs.resets import start_grid
from serl_core.envs.task import Task
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks.perception import perception_for

DEMO_TRIALS, TRIALS = 50, 30


def task_with(kind: EncoderKind) -> Task:
    """Return the demo's task with this encoder, and without the classifier: nothing else shall differ."""
    observation = dataclasses.replace(TASK.config.observation, encoder=EncoderConfig(kind=kind))
    return dataclasses.replace(
        TASK, config=dataclasses.replace(TASK.config, observation=observation, reward=RewardConfig())
    )


def run(kind: EncoderKind, seed: int, steps: int, folder: Path) -> dict[str, object]:
    """Train and score once; return the result, also of a run that was there before."""
    path = folder / f"{kind.value}-seed{seed}"
    recipe, task = RECIPES[Observations.PIXELS], task_with(kind)
    args = TrainArgs(
        run=path,
        sync=True,
        seed=seed,
        steps=steps,
        trials=0,
        utd=recipe.utd,
        batch=recipe.batch,
        temperature_lr=recipe.temperature_lr,
    )
    if not (path / "policy.safetensors").exists():
        train(args, task)
    perception = perception_for(task.config)
    policy = load_acting_policy(path / "policy.safetensors", task.config, perception)
    with open_env(task, perception, args, seed) as env:
        result = evaluate(env, policy.mode, start_grid(task.config.reset, TRIALS, skip=DEMO_TRIALS))
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rates = {
        record["env_steps"] // 1000: record["autonomous_success_20"]
        for record in records
        if record["kind"] == "episode" and record["autonomous_success_20"] is not None
    }
    return {
        "encoder": kind.value,
        "seed": seed,
        "successes": result.successes,
        "trials": result.trials,
        "median_cycle_s": result.median_cycle_s,
        "success_of_20_by_thousand_steps": rates,
    }


def main() -> None:
    """Run and print, a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=["small", "random"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path("runs/encoders"))
    args = parser.parse_args()
    for kind in args.encoders:
        for seed in args.seeds:
            print(json.dumps(run(EncoderKind(kind), seed, args.steps, args.folder)), flush=True)


if __name__ == "__main__":
    main()
