"""`serl train --sync`: robot, actor and learner in one process and one thread, the same to the bit for a seed.

Act, store, update, in turn. The parts are those of the three programs: the safety kernel, the actor's
loop, the learner with its log and checkpoints. Only the sockets are missing.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from actors.actor import ActorLoop
from actors.evaluate import evaluate
from actors.main import Program, load_acting_policy, seeds
from actors.record import record
from actors.seeing import vision_for
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from actors.vision import CameraVision
from learners.learner import Learner, LearnerConfig
from learners.main import open_trainer
from learners.trainer import TrainerConfig
from robot_servers.limits import SafetyLimits
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.gl import import_mujoco
from serl_core.agents.policy import ActingPolicy
from serl_core.agents.sac import SacConfig
from serl_core.cli.onlooker import console_beside
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.metrics_file import MetricsWriter
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import start_grid
from serl_core.envs.task import Task, load_task
from serl_core.errors import ConfigError
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.networks.perception import Perception, perception_for
from serl_core.transport.in_process import InProcessHub
from serl_core.transport.interface import Hello


@dataclass(frozen=True, kw_only=True)
class TrainArgs:
    """Train in simulation, in one process."""

    run: Path  # a new folder
    sync: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False  # required: three processes are `serl demo`'s
    task: str = "ram_insertion"
    seed: int = 0
    steps: int = 12_000  # environment steps
    demonstrations: int = 20
    trials: int = 50  # of the evaluation at the end; 0 for none
    utd: int = SacConfig.utd_ratio
    critics: int = SacConfig.critics
    batch: int = SacConfig.batch_size
    temperature_lr: float = SacConfig.temperature_learning_rate
    classifier: Path | None = None  # classifier.safetensors, for a task whose reward it gives
    allow_poor_classifier: bool = False  # although it calls failures successes, or nobody has measured whether it does
    skill: ExpertSkill = field(default_factory=ExpertSkill)
    console: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False  # watch it in a browser


def run_train(args: TrainArgs) -> None:
    """Record, train and evaluate; print the digest of the final policy.

    Raises:
        SerlError: an argument or the run folder is not as it must be.
    """
    if not args.sync:
        raise ConfigError(
            "give --sync for one process; for three, use `serl demo`, or start `serl robot-server`, `serl learner` "
            "and `serl actor`"
        )
    console = Console()
    digest = train(args)
    console.print(f"policy {args.run / 'policy.safetensors'}, sha256 {digest[:16]}")
    if args.trials:
        task = load_task(args.task)
        perception = perception_for(task.config)
        policy = load_acting_policy(args.run / "policy.safetensors", task.config, perception)
        env_seed, _, _ = seeds(0, Program.EVAL)
        with open_env(task, perception, args, env_seed) as env:
            result = evaluate(env, policy.mode, start_grid(task.config.reset, args.trials))
        result.write(args.run / "eval.json")
        console.print(f"success {result.successes}/{result.trials}, median cycle {result.median_cycle_s} s")


def train(args: TrainArgs, task: Task | None = None) -> str:
    """Record demonstrations and train; return the sha256 of the final policy file.

    Args:
        task: instead of the one that `args.task` names.
    """
    task = task or load_task(args.task)
    enable_compilation_cache()
    perception = perception_for(task.config)
    _vision(task, perception, args, args.seed)  # refuses a classifier before anything is written
    args.run.mkdir(parents=True, exist_ok=True)
    if any(args.run.iterdir()):
        raise ConfigError(f"run folder {args.run} is not empty; name another one, nothing was changed")
    (args.run / "task.json").write_text(task.config.to_json())
    with ExitStack() as onlookers:
        if args.console:
            onlookers.enter_context(console_beside(args.run, args.task, None, Console()))
        return _train(args, task, perception)


def _train(args: TrainArgs, task: Task, perception: Perception) -> str:
    _record(args, task, perception)
    env_seed, teleop_seed, policy_seed = seeds(args.seed, Program.ACTOR)
    session = hashlib.md5(f"sync-{args.seed}".encode()).hexdigest()
    with ExitStack() as stack:
        log = stack.enter_context(closing(EpisodeLog(args.run / "experience", perception.digest)))
        sac = SacConfig(
            utd_ratio=args.utd,
            critics=args.critics,
            batch_size=args.batch,
            temperature_learning_rate=args.temperature_lr,
        )
        config = TrainerConfig(sac=sac, seed=args.seed)
        trainer = open_trainer(
            perception, config, log, run=args.run, demos=args.run / "demos", max_env_steps=args.steps
        )
        hub = InProcessHub()
        link = stack.enter_context(closing(hub.open_learner(perception.digest)))
        metrics = stack.enter_context(MetricsWriter(args.run / "metrics.jsonl"))
        schedule = LearnerConfig(max_env_steps=args.steps)
        learner = Learner(trainer, link, log, metrics, task.config, schedule, args.run)
        learner.start(resume=False)
        actor = stack.enter_context(closing(hub.actor()))
        actor.connect(Hello(actor_id="sync", session=session, spec_digest=perception.digest), 0.0)
        env = stack.enter_context(open_env(task, perception, args, env_seed))
        policy = ActingPolicy(perception.spec, sac.policy, policy_seed)
        teleop = ScriptedTeleop(task, env, skill=args.skill, seed=teleop_seed)
        loop = ActorLoop(env, policy.sample, teleop, session=session)
        is_finished = False
        while not is_finished:
            weights = actor.newest_weights(loop.policy_version)
            if weights is not None:
                policy.load(weights.params)
                loop.policy_version = weights.version
            if loop.sequence < args.steps:
                actor.offer([loop.step()])
            is_finished = learner.advance(0.0)
    return hashlib.sha256((args.run / "policy.safetensors").read_bytes()).hexdigest()


def _record(args: TrainArgs, task: Task, perception: Perception) -> None:
    env_seed, teleop_seed, _ = seeds(args.seed, Program.RECORD)
    with open_env(task, perception, args, env_seed) as env:
        teleop = ScriptedTeleop(task, env, skill=args.skill, seed=teleop_seed, is_demonstrating=True)
        idle = np.zeros(task.config.action.spec.size, np.float32)
        loop = ActorLoop(env, lambda _: idle, teleop, session=hashlib.md5(b"demos").hexdigest())
        record(loop, args.demonstrations, args.run / "demos", task_digest=perception.digest)


@contextmanager
def open_env(task: Task, perception: Perception, args: TrainArgs, seed: int) -> Iterator[ArmEnv]:
    """Yield an environment with a simulated arm in this process.

    Raises:
        ConfigError: the task has no simulated scene, or mujoco is not installed.
    """
    if task.config.scene is None:
        raise ConfigError(f"task {task.config.name!r}: has no simulated scene to train in")
    import_mujoco()
    from robot_servers.sim.backend import MujocoBackend  # only now: it imports mujoco

    service = RobotService(MujocoBackend(task.config.scene, seed=seed, is_lockstep=True), SafetyLimits())
    service.start()
    vision = _vision(task, perception, args, seed)
    try:
        with ArmEnv(task, LocalRobot(service), vision=vision, seed=seed) as env:
            yield env
    finally:
        service.close()


def _vision(task: Task, perception: Perception, args: TrainArgs, seed: int) -> CameraVision | None:
    return vision_for(
        task.config,
        perception,
        classifier=args.classifier,
        allow_poor_classifier=args.allow_poor_classifier,
        seed=seed,
    )
