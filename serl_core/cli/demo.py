"""`serl demo`: the whole system on one machine. Three processes on loopback learn RAM insertion in simulation.

It records demonstrations, trains with scripted interventions, scores the final policy alone and
writes a report. Exit status 0 only if the policy reached 95 %. With `--backend franky-sim` the same programs run for
a few minutes in real time through libfranka, and exit status 0 says that they did.
"""

import dataclasses
import json
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console

from serl_core.cli.onlooker import console_beside
from serl_core.cli.processes import ProcessGroup, ended_by_signals
from serl_core.cli.progress import TrainingProgress
from serl_core.cli.report import Summary, demonstration_cycle_s, write_report
from serl_core.cli.report_vision import classifier_line, encoder_of
from serl_core.config import RewardKind, TaskConfig
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError, RobotError, SerlError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode

REQUIRED_SUCCESS = 0.95
LEAST_STEPS = 101  # the first 100 only fill the buffer
START_TIMEOUT_S = 120.0
PHASE_TIMEOUT_S = 3600.0
QUIET_S = 5.0  # of training, until the script that stands in for the human looks at the arm
STALL_TIMEOUT_S = 180.0
ACTOR_GRACE_S = 10.0  # between the actor's end and the learner's


class Observations(Enum):
    """What the policy learns from."""

    PIXELS = "pixels"  # the wrist camera; an image classifier gives the reward
    STATE = "state"  # the tool's pose relative to the socket; the simulator gives the reward


class Arm(Enum):
    """What the robot server controls."""

    SIM = "sim"  # our simulation, as fast as it can
    FRANKY_SIM = "franky-sim"  # an FR3 that speaks libfranka's protocol, in real time and empty space


class Recipe(NamedTuple):
    """How the demo trains: its task, options of `serl learner`, and how many demonstrations and trials it takes."""

    task: str
    steps: int
    utd: int
    batch: int
    temperature_lr: float
    demonstrations: int = 20
    trials: int = 50  # of the final evaluation


SHORT = Recipe("reach", steps=600, utd=4, batch=128, temperature_lr=3e-4, demonstrations=5, trials=10)

RECIPES = {
    Observations.PIXELS: Recipe("ram_insertion_pixels", steps=10_000, utd=4, batch=128, temperature_lr=3e-3),
    Observations.STATE: Recipe("ram_insertion", steps=12_000, utd=4, batch=256, temperature_lr=3e-4),
}


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """Train a policy in simulation, end to end."""

    seed: int = 0
    steps: int | None = (
        None  # of the environment, ten a second of robot time; pixels 10000, state 12000, franky-sim 600
    )
    obs: Annotated[Observations, tyro.conf.EnumChoicesFromValues] = Observations.PIXELS
    backend: Annotated[Arm, tyro.conf.EnumChoicesFromValues] = Arm.SIM
    run: Path | None = None  # folder of the run; a new one under runs/ if not given
    task: str | None = None  # another task than ours for these observations
    demonstrations: int | None = None  # 20 if not given; on franky-sim 5
    trials: int | None = None  # of the final evaluation; 50 if not given, on franky-sim 10
    console: bool = False  # serve the operator's console beside it: watch, stop, correct and label in a browser

    def __post_init__(self) -> None:
        for name, least in (("steps", LEAST_STEPS), ("demonstrations", 1), ("trials", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name}: must be at least {least}, got {value}")


def run_demo(args: DemoArgs) -> int:
    """Run the demo; return 0 if the policy succeeds in at least 95 % of the trials, else 1; on franky-sim always 0."""
    console = Console()
    recipe, config = _recipe(args)
    run = _new_run(args, config.name)
    (run / "task.json").write_text(config.to_json())
    started_s = time.monotonic()
    with ended_by_signals(), ProcessGroup(run / "logs") as group, ExitStack() as onlookers:
        robot = _start_robot(group, run, config.scene, args)
        robot_started_s = _robot_clock_s(robot)
        console.print(f"[bold]{config.name}[/bold] in {run}")
        console.print(f"robot server at {robot}")
        if args.console:
            onlookers.enter_context(console_beside(run, recipe.task, robot, console))
        common = ["--task", recipe.task, "--robot", robot]
        human = ["--mock-robot"] if args.backend is Arm.FRANKY_SIM else []  # the script may act: nobody is in its way
        seeded = [*common, "--seed", str(args.seed)]
        judge = _classifier(group, run, seeded, console) if config.reward.kind is RewardKind.CLASSIFIER else []
        console.print(f"recording {recipe.demonstrations} demonstrations")
        watched = ["--run", str(run)] if args.console else []  # by the console, which finds the recorder there
        group.start(
            "recorder",
            ["record", *seeded, *judge, *human, *watched]
            + ["--out", str(run / "demos"), "--count", str(recipe.demonstrations)],
        )
        group.wait("recorder", PHASE_TIMEOUT_S)
        demo_cycle_s = demonstration_cycle_s(run / "demos", config.control_hz)
        if encoder := encoder_of(run / "demos"):
            console.print(f"frozen encoder {encoder}")
        console.print(f"demonstrations take {demo_cycle_s:.1f} s each; starting learner and actor")
        _train(group, run, args, recipe, robot, [*seeded, *judge, *human], console)
        training_s = time.monotonic() - started_s
        robot_s = _robot_clock_s(robot) - robot_started_s
        console.print(f"evaluating the final policy alone on {recipe.trials} trials")
        group.start(
            "evaluation",
            ["eval", *common, *judge, "--policy", str(run / "policy.safetensors")]
            + ["--trials", str(recipe.trials), "--out", str(run / "eval.json")],
        )
        group.wait("evaluation", PHASE_TIMEOUT_S)
    result = json.loads((run / "eval.json").read_text())
    summary = Summary(
        task=config.name,
        seed=args.seed,
        successes=result["successes"],
        trials=result["trials"],
        success_rate=result["success_rate"],
        success_low_95=result["wilson_low"],
        success_high_95=result["wilson_high"],
        cycle_s_median=result["median_cycle_s"],
        cycle_s_p90=result["p90_cycle_s"],
        demonstration_cycle_s=demo_cycle_s,
        environment_steps=recipe.steps,
        robot_minutes=recipe.steps / config.control_hz / 60,
        robot_minutes_in_all=robot_s / 60,
        training_wall_minutes=training_s / 60,
        wall_minutes=(time.monotonic() - started_s) / 60,
    )
    (run / "summary.json").write_text(json.dumps(dataclasses.asdict(summary), indent=2))
    console.print(f"report: {write_report(run)}", soft_wrap=True)
    for line in summary.lines():
        console.print(line, highlight=False)
    return 0 if args.backend is Arm.FRANKY_SIM or summary.success_rate >= REQUIRED_SUCCESS else 1


def _recipe(args: DemoArgs) -> tuple[Recipe, TaskConfig]:
    """Return how to train, and on what.

    Raises:
        ConfigError: the task is not for the arm that was asked for.
    """
    is_ours = args.backend is Arm.SIM
    task = args.task or (RECIPES[args.obs] if is_ours else SHORT).task
    config = load_task(task).config
    sees = Observations.PIXELS if config.observation.cameras else Observations.STATE
    if is_ours and config.scene is None:
        raise ConfigError(
            f"task {config.name!r}: has no simulated scene; give TaskConfig.scene one, or start the programs"
        )
    if not is_ours and (config.scene is not None or config.observation.cameras):
        raise ConfigError(f"task {config.name!r}: --backend franky-sim is empty space without cameras; try reach")
    recipe = RECIPES[sees] if is_ours else SHORT
    return recipe._replace(
        task=task,
        steps=args.steps or recipe.steps,
        demonstrations=args.demonstrations or recipe.demonstrations,
        trials=args.trials or recipe.trials,
    ), config


def _new_run(args: DemoArgs, task: str) -> Path:
    if args.run is None:
        stem = Path("runs") / f"{task}-seed{args.seed}"
        run, number = stem, 2
        while run.exists():
            run, number = stem.with_name(f"{stem.name}-{number}"), number + 1
    else:
        run = args.run
        if run.exists() and any(run.iterdir()):
            raise ConfigError(f"run folder {run} is not empty; name another one, nothing was changed")
    run.mkdir(parents=True, exist_ok=True)
    return run


def _start_robot(group: ProcessGroup, run: Path, scene: str | None, args: DemoArgs) -> str:
    """Start the arm and its server; return the server's address."""
    ready = run / "robot.url"
    if args.backend is Arm.SIM:
        assert scene is not None
        arm = ["--backend", "sim", "--clock", "lockstep", "--scene", scene, "--seed", str(args.seed)]
    else:
        group.start("arm", ["franky-sim", "--ready-file", str(run / "arm.address")])
        address = group.wait_for_file("arm", run / "arm.address", START_TIMEOUT_S)
        arm = ["--backend", "franky", "--robot-ip", address, "--ignore-realtime"]
    group.start("robot server", ["robot-server", *arm, "--port", "0", "--ready-file", str(ready)])
    return group.wait_for_file("robot server", ready, START_TIMEOUT_S)


def _robot_clock_s(robot: str) -> float:
    with closing(HttpRobot(robot, owner="demo")) as arm:
        return arm.state().stamp_s


def _classifier(group: ProcessGroup, run: Path, seeded: list[str], console: Console) -> list[str]:
    """Record labelled frames and train the reward classifier on them; return the option that names it."""
    folder = run / "classifier"
    console.print("recording frames with and without success, and training the reward classifier on them")
    group.start("frames", ["classifier", "record", *seeded, "--out", str(folder / "frames")])
    group.wait("frames", PHASE_TIMEOUT_S)
    group.start(
        "classifier",
        ["classifier", "train", *_without(seeded, "--robot"), "--data", str(folder / "frames"), "--out", str(folder)],
    )
    group.wait("classifier", PHASE_TIMEOUT_S)
    console.print(classifier_line(folder))
    return ["--classifier", str(folder / "classifier.safetensors")]


def _recover(robot: str, console: Console) -> None:
    """Do what a person beside the arm does: recover it if it is in a fault and the actor waits for that; say so."""
    with suppress(RobotError), closing(HttpRobot(robot, owner="demo")) as arm:
        state = arm.state()
        if state.mode is Mode.FAULT and state.lease_epoch:
            arm.recover()
            console.print(f"the arm had stopped by itself ({state.fault}); recovered, as a person beside it would")


def _without(options: list[str], name: str) -> list[str]:
    place = options.index(name)
    return options[:place] + options[place + 2 :]


def _train(
    group: ProcessGroup, run: Path, args: DemoArgs, recipe: Recipe, robot: str, actor: list[str], console: Console
) -> None:
    """Train with three processes; `actor` are the actor's options, `robot` its server's address."""
    ready = run / "learner.address"
    group.start(
        "learner",
        ["learner", "--task", recipe.task, "--seed", str(args.seed), "--run", str(run), "--demos", str(run / "demos")]
        + ["--steps", str(recipe.steps), "--utd", str(recipe.utd), "--batch", str(recipe.batch)]
        + ["--temperature-lr", str(recipe.temperature_lr)]
        + ["--port", "0", "--ready-file", str(ready)],
    )
    learner = group.wait_for_file("learner", ready, START_TIMEOUT_S)
    group.start("actor", ["actor", *actor, "--learner", learner, "--run", str(run)])
    quiet_since_s = looked_s = actor_seen_s = time.monotonic()
    size = 0
    with TrainingProgress(run, recipe.steps, console) as progress:
        while group.is_running("learner"):
            group.check()
            progress.update()
            if progress.failure is not None:
                raise SerlError(f"the training has stopped: {progress.failure}; see {run / 'logs'}")
            if group.is_running("actor"):
                actor_seen_s = time.monotonic()
            elif time.monotonic() - actor_seen_s > ACTOR_GRACE_S:
                raise SerlError(f"the actor ended before the training did; see {run / 'logs'}")
            new_size = (run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0
            if new_size != size:
                size, quiet_since_s = new_size, time.monotonic()
            now_s = time.monotonic()
            if args.console:  # a person looks after the arm, and may have paused it
                quiet_since_s = now_s
            if now_s - quiet_since_s > STALL_TIMEOUT_S:
                raise SerlError(f"training has made no progress for {STALL_TIMEOUT_S:.0f} s; see {run / 'logs'}")
            if now_s - max(quiet_since_s, looked_s) > QUIET_S:
                looked_s = now_s
                _recover(robot, console)
            time.sleep(0.25)
        progress.update()
    group.wait("learner", START_TIMEOUT_S)
    group.wait("actor", START_TIMEOUT_S)
