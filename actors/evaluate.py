"""Scores a policy alone: deterministic, on a fixed grid of start poses, with an honest interval."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float

from actors.actor import Act
from serl_core.envs.arm_env import ArmEnv
from serl_core.errors import ConfigError
from serl_core.types import EndReason, Observation

Z_95 = 1.959964  # two-sided 95 % of the normal distribution


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of an evaluation."""

    start_pose: tuple[float, ...]  # x y z qx qy qz qw
    is_success: bool
    end: str
    steps: int
    cycle_s: float  # of robot time


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found."""

    task: str
    trials: int
    successes: int
    success_rate: float
    wilson_low: float
    wilson_high: float
    median_cycle_s: float | None  # of the successes; None without any
    p90_cycle_s: float | None
    trials_detail: tuple[Trial, ...]

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))


def evaluate(env: ArmEnv, act: Act, starts: Sequence[Float[np.ndarray, "7"]]) -> Evaluation:
    """Run one episode from each start pose; nobody intervenes.

    Raises:
        ConfigError: there are no start poses.
        RobotFault: the robot is stopped or in a fault.
    """
    if not starts:
        raise ConfigError("an evaluation needs at least 1 trial, got 0")
    trials = tuple(_run_trial(env, act, start) for start in starts)
    cycles_s = [trial.cycle_s for trial in trials if trial.is_success]
    low, high = wilson_interval(len(cycles_s), len(trials))
    return Evaluation(
        task=env.task.config.name,
        trials=len(trials),
        successes=len(cycles_s),
        success_rate=len(cycles_s) / len(trials),
        wilson_low=low,
        wilson_high=high,
        median_cycle_s=statistics.median(cycles_s) if cycles_s else None,
        p90_cycle_s=float(np.quantile(cycles_s, 0.9)) if cycles_s else None,
        trials_detail=trials,
    )


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate (Wilson 1927); it stays within 0 and 1."""
    rate = successes / trials
    weight = z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z * math.sqrt(rate * (1 - rate) / trials + weight / trials / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def _run_trial(env: ArmEnv, act: Act, start: Float[np.ndarray, "7"]) -> Trial:
    observation, _ = env.reset(options={"start_pose": start})
    end = EndReason.RUNNING
    while end is EndReason.RUNNING:
        observation, _, _, _, info = env.step(act(Observation(**observation)))
        end = info["end"]
    return Trial(
        start_pose=tuple(start.tolist()),
        is_success=end is EndReason.SUCCESS,
        end=end.name.lower(),
        steps=env.steps,
        cycle_s=env.steps / env.task.config.control_hz,
    )
