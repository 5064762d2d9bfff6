"""`serl actor`, `serl record` and `serl eval`: builds the actor's programs from their arguments."""

import logging
import sys
import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import msgspec
import numpy as np

from actors.actor import ActorLoop
from actors.actor_metrics import ActorMetrics
from actors.cameras.views import check_views
from actors.discard import DiscardingLoop
from actors.evaluate import evaluate
from actors.frames_to_review import FramesToReview
from actors.operator_access import operator_access
from actors.program_end import ended_by_signals
from actors.record import record
from actors.remote import ActorLog, RemoteActor
from actors.seeing import vision_for
from actors.spool import MAX_TRANSITIONS, Spool
from actors.spooled_sender import SpooledSender
from actors.teleop.choice import TeleopKind
from actors.teleop.device import TeleopArgs, make_teleop, opened
from actors.teleop.interface import Reporting
from actors.veto_file import VetoFile
from actors.vision import CameraVision
from serl_core.agents.policy import ActingPolicy, PolicyConfig
from serl_core.config import TaskConfig
from serl_core.digests import not_of_here
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.resets import start_grid
from serl_core.envs.task import Task, load_task
from serl_core.envs.vision import Vision
from serl_core.errors import ConfigError, DataError
from serl_core.metrics_server import MetricsServer
from serl_core.networks.perception import Perception, perception_for
from serl_core.networks.weights import load_policy
from serl_core.robots.http_client import HttpRobot
from serl_core.scheduling import go_before_others, spare_what_stays
from serl_core.threads import dying_together
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink

logger = logging.getLogger(__name__)

DEFAULT_ROBOT = "http://127.0.0.1:5000"
DEFAULT_LEARNER = "tcp://127.0.0.1:5588"
GIL_INTERVAL_S = 0.0005  # a tick must not wait for a camera's thread


class Program(IntEnum):
    """Keeps the random numbers of the programs apart when they are given the same seed."""

    ACTOR = 0
    RECORD = 1
    EVAL = 2


@dataclass(frozen=True, kw_only=True)
class ActorArgs(TeleopArgs):
    """Run the learner's newest policy on the arm; the human steps in when it is stuck."""

    task: str
    run: Path  # folder of the run: gets actor.jsonl, the spool, and frames to review
    robot: str = DEFAULT_ROBOT  # address of the robot server
    learner: str = DEFAULT_LEARNER  # address of the learner
    keys: Path | None = None  # file of `serl keys` for this actor, for a learner on another machine
    seed: int = 0
    steps: int | None = None  # control steps; until the learner has finished if not given
    max_lead_steps: int = 20  # in lockstep: how far to run ahead of the training
    actor_id: str = "actor-0"
    classifier: Path | None = None  # classifier.safetensors, for a task whose reward it gives
    allow_poor_classifier: bool = False  # although it calls failures successes, or nobody has measured it
    token_file: Path | None = None  # of the robot server; where it made it if not given
    learner_timeout_s: float = 10.0
    spool_transitions: int = MAX_TRANSITIONS  # that may wait for the learner on the disk; then the arm holds
    spool_drops_oldest: bool = False  # or, instead of holding: drop and count the oldest of them
    operator: bool = True  # let the operators of `serl console` watch, stop, correct and label
    real_time_priority: bool = False  # go before every ordinary process (SCHED_FIFO)
    metrics_port: int | None = None  # serve counters to Prometheus on this machine; 0: any; see ACTOR_ID.metrics.url

    def __post_init__(self) -> None:
        if self.max_lead_steps < 1:
            raise ConfigError(f"ActorArgs.max_lead_steps: must be at least 1, got {self.max_lead_steps}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"ActorArgs.steps: must be at least 1, got {self.steps}")
        if self.spool_transitions < 1:
            raise ConfigError(f"ActorArgs.spool_transitions: must be at least 1, got {self.spool_transitions}")
        if self.teleop is TeleopKind.BROWSER and not self.operator:
            raise ConfigError(
                "--teleop browser: needs the operators that --no-operator keeps out; leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class RecordArgs(TeleopArgs):
    """Record demonstrations by the task's scripted expert, or by a person at a device."""

    task: str
    out: Path  # folder of the demonstrations; new ones are added
    count: int = 20  # successful ones to record
    robot: str = DEFAULT_ROBOT
    seed: int = 0
    classifier: Path | None = None  # for a task whose reward it gives
    allow_poor_classifier: bool = False  # although it calls failures successes, or nobody has measured it
    token_file: Path | None = None
    run: Path | None = None  # folder where `serl console` finds this recorder
    actor_id: str = "recorder"
    operator: bool = True  # with --run: let operators watch, steer and label

    def __post_init__(self) -> None:
        if self.teleop is TeleopKind.BROWSER and (self.run is None or not self.operator):
            raise ConfigError("--teleop browser: the page finds the recorder by a folder; give --run, the console's")


@dataclass(frozen=True, kw_only=True)
class EvalArgs:
    """Score a policy alone: deterministic, on a fixed grid of start poses."""

    task: str
    policy: Path  # policy.safetensors of a finished run
    out: Path  # JSON file of the result
    trials: int = 50
    video: Path | None = None  # folder: gets an MP4 of each trial
    skip: int = 0  # grid poses to leave out first: other start poses than another evaluation's
    robot: str = DEFAULT_ROBOT
    classifier: Path | None = None  # for a task whose reward it gives
    allow_poor_classifier: bool = False  # although it calls failures successes, or nobody has measured it
    token_file: Path | None = None


def run_actor(args: ActorArgs) -> int:
    """Act until the learner has finished; return 0, also when stopped by SIGTERM or SIGINT.

    Raises:
        SerlError: an argument, the robot, the learner or a file is not as it must be.
    """
    if args.real_time_priority:
        go_before_others()  # before there is any other thread
    task = load_task(args.task)
    env_seed, teleop_seed, policy_seed = seeds(args.seed, Program.ACTOR)
    session = uuid.uuid4().hex
    perception = perception_for(task.config)
    policy = ActingPolicy(perception.spec, PolicyConfig(), policy_seed)
    with ExitStack() as stack:
        stop = stack.enter_context(ended_by_signals())
        stack.enter_context(dying_together())
        spool_file = args.run / f"{args.actor_id}.spool"
        spool = stack.enter_context(
            Spool(
                spool_file,
                digest=perception.digest,
                max_transitions=args.spool_transitions,
                drops_oldest=args.spool_drops_oldest,
            )
        )
        vetoes = VetoFile(spool_file.with_suffix(".vetoes"))
        vetoes.apply(spool)
        link = stack.enter_context(closing(ZmqActorLink(args.learner, args.keys)))
        sender = SpooledSender(spool, link, spec=perception.stored)
        hello = Hello(actor_id=args.actor_id, session=session, spec_digest=perception.digest)
        sender.connect(hello, args.learner_timeout_s)
        vision = _vision(args, task.config, perception, env_seed)
        env = _open_env(task, vision, args.robot, args.actor_id, args.token_file, env_seed)
        review = FramesToReview(args.run, task.config)
        run = args.run if args.operator else None
        desk, reports = stack.enter_context(
            operator_access(
                run,
                args.actor_id,
                env,
                session=session,
                robot_url=args.robot,
                vision=vision,
                review=review,
                vetoes=vetoes,
            )
        )
        teleop = stack.enter_context(opened(make_teleop(args, task, env, teleop_seed, desk if args.operator else None)))
        stack.enter_context(env)
        _check_views(env, vision, args.run)
        metrics = ActorMetrics(
            time.monotonic,
            frames=vision.newest_frames if vision is not None else dict,
            teleop_age_s=teleop.age_s if isinstance(teleop, Reporting) else lambda: None,
        )
        actor = RemoteActor(
            ActorLoop(
                env,
                stop.guard(policy.sample),
                teleop,
                session=session,
                sleep=stop.sleep,
                review=review,
                desk=desk,
                reports=reports,
            ),
            policy,
            link,
            sender,
            max_lead_steps=args.max_lead_steps if env.is_lockstep else None,
            log=stack.enter_context(ActorLog(args.run / "actor.jsonl")),
            desk=desk,
            sleep=stop.sleep,
            metrics=metrics,
        )
        if args.metrics_port is not None:
            url = args.run / f"{args.actor_id}.metrics.url"
            stack.enter_context(MetricsServer(metrics.samples, port=args.metrics_port, ready_file=url))
        spare_what_stays()
        actor.run(max_steps=args.steps)
    return 0


def run_record(args: RecordArgs) -> int:
    """Record demonstrations; return 0 when there are enough.

    Raises:
        SerlError: an argument, the robot or the folder is not as it must be.
    """
    task = load_task(args.task)
    perception = perception_for(task.config)
    env_seed, teleop_seed, _ = seeds(args.seed, Program.RECORD)
    with ExitStack() as stack:
        stop = stack.enter_context(ended_by_signals())
        stack.enter_context(dying_together())
        vision = _vision(args, task.config, perception, env_seed)
        env = _open_env(task, vision, args.robot, args.actor_id, args.token_file, env_seed)
        review, session = FramesToReview(args.out, task.config), uuid.uuid4().hex
        run = args.run if args.operator else None
        is_at_page = args.teleop is TeleopKind.BROWSER
        desk, reports = stack.enter_context(
            operator_access(
                run,
                args.actor_id,
                env,
                session=session,
                robot_url=args.robot,
                vision=vision,
                review=review,
                awaits_person=is_at_page,
            )
        )
        device = make_teleop(args, task, env, teleop_seed, None if run is None else desk, is_demonstrating=True)
        teleop = stack.enter_context(opened(device))
        stack.enter_context(env)
        _check_views(env, vision, args.run or args.out)
        idle = np.zeros(task.config.action.spec.size, np.float32)  # what the absent policy would do
        loop = DiscardingLoop(
            env,
            stop.guard(lambda _: idle),
            teleop,
            session=session,
            sleep=stop.sleep,
            review=review,
            desk=desk,
            reports=reports,
        )
        recording = record(loop, args.count, args.out, task_digest=perception.digest, desk=desk, sleep=stop.sleep)
    logger.info("saved %d demonstrations in %s; %d failed", len(recording.saved), args.out, recording.failed)
    return 0


def run_eval(args: EvalArgs) -> int:
    """Evaluate a policy and write the result as JSON; return 0 whatever it was.

    Raises:
        SerlError: an argument, the robot or the policy file is not as it must be.
    """
    task = load_task(args.task)
    perception = perception_for(task.config)
    policy = load_acting_policy(args.policy, task.config, perception)
    env_seed, _, _ = seeds(0, Program.EVAL)
    starts = start_grid(task.config.reset, args.trials, skip=args.skip)
    vision = _vision(args, task.config, perception, env_seed)
    with (
        ended_by_signals() as stop,
        dying_together(),
        _open_env(task, vision, args.robot, "evaluation", args.token_file, env_seed) as env,
    ):
        result = evaluate(env, stop.guard(policy.mode), starts, video=args.video, sleep=stop.sleep)
    result.write(args.out)
    logger.info(
        "success %d of %d (95 %% interval %.1f to %.1f %%), median cycle %s s",
        result.successes,
        result.trials,
        100 * result.wilson_low,
        100 * result.wilson_high,
        result.median_cycle_s,
    )
    return 0


def load_acting_policy(path: Path, task: TaskConfig, perception: Perception) -> ActingPolicy:
    """Return the policy of a file, ready to act in `task`.

    Raises:
        DataError: there is no such policy file, or it is of another task or network.
    """
    saved = load_policy(path)
    try:
        found = saved.facts["task_digest"]
        config = msgspec.convert(saved.facts["sac"]["policy"], PolicyConfig)
    except (KeyError, msgspec.ValidationError) as error:
        raise DataError(
            f"{path}: does not say what task and network it is of ({error}); take one that a learner wrote"
        ) from None
    if found != perception.digest:
        remedy = f"evaluate it with the task and configuration of its run instead of {task.name!r}"
        raise DataError(not_of_here(str(path), found, perception.digest, remedy))
    policy = ActingPolicy(perception.spec, config, seed=0)
    policy.load(saved.params)
    return policy


def seeds(seed: int, program: Program) -> tuple[int, int, int]:
    """Return the seeds of a program's environment, scripted human and policy: independent of each other."""
    environment, teleop, policy = np.random.SeedSequence([seed, program]).generate_state(3)
    return int(environment), int(teleop), int(policy)


def _vision(
    args: ActorArgs | RecordArgs | EvalArgs, task: TaskConfig, perception: Perception, seed: int
) -> CameraVision | None:
    return vision_for(
        task, perception, classifier=args.classifier, allow_poor_classifier=args.allow_poor_classifier, seed=seed
    )


def _check_views(env: ArmEnv, vision: CameraVision | None, folder: Path) -> None:
    """Refuse cameras of a real arm that show nothing, or were swapped since this folder was begun."""
    if vision is not None and not env.is_simulated:
        check_views({name: frame.image for name, frame in vision.newest_frames().items()}, folder)


def _open_env(task: Task, vision: Vision | None, url: str, owner: str, token_file: Path | None, seed: int) -> ArmEnv:
    """Return an environment that connects when it is entered."""
    sys.setswitchinterval(GIL_INTERVAL_S)
    return ArmEnv(task, HttpRobot(url, owner=owner, token_file=token_file), vision=vision, seed=seed)
