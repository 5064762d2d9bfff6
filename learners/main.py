"""`serl learner`: builds the learner from its arguments, and runs it until it is done or told to stop."""

import logging
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from learners.checkpoints import Checkpoints
from learners.demonstrations import load_demonstrations
from learners.learner import Learner, LearnerConfig
from learners.learner_metrics import LearnerMetrics
from learners.settings import FILE, RunSettings, new_settings, resumed_settings
from learners.trainer import Trainer, TrainerConfig
from serl_core.agents.sac import SacConfig
from serl_core.config import TaskConfig
from serl_core.data.episode_file import write_atomically
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.memory import available_bytes, check_memory
from serl_core.data.metrics_file import MetricsWriter
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError
from serl_core.metrics_server import MetricsServer
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.networks.perception import Perception, perception_for
from serl_core.scheduling import before_others, spare_what_stays
from serl_core.signals import set_by_signals
from serl_core.threads import dying_together
from serl_core.transport.zmq_transport import ZmqLearnerLink

logger = logging.getLogger(__name__)

DEFAULT_PORT = 5588
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class LearnerArgs:
    """Train a policy from what the actors send. With --resume, what is not given is as the run was started with."""

    task: str
    run: Path  # folder of the run: checkpoints, episodes, metrics and the final policy
    demos: Path | None = None  # folder of recorded demonstrations; fixed for a run
    host: str = "127.0.0.1"  # where to listen; an address that others reach needs `keys`
    port: int = DEFAULT_PORT  # 0: a free one; see `ready_file`
    keys: Path | None = None  # folder of `serl keys`: admit only its actors, and encrypt
    insecure_lan: bool = False  # listen to the network without keys: anyone there can read and feed this learner
    seed: int | None = None  # 0 if not given; fixed for a run
    steps: int | None = None  # environment steps to train for; 12000 if not given
    utd: int | None = None  # critic updates per environment step; 4 if not given; fixed for a run
    batch: int | None = None  # transitions in each update; 256 if not given; fixed for a run
    critics: int | None = None  # above 2, targets use a random pair of them; 2 if not given; fixed for a run
    temperature_lr: float | None = None  # step size of the temperature; 3e-3 if not given; fixed for a run
    capacity: int | None = None  # frames of the online buffer; 200000 if not given; fixed for a run
    checkpoint_every: int | None = None  # environment steps; 1000 if not given
    publish_every: int | None = None  # environment steps; 10 if not given
    resume: bool = False  # go on where this run was left
    fresh: bool = False  # with --resume: learn again from its experience, and set its checkpoints aside
    ready_file: Path | None = None  # gets the address for actors, once they may come
    real_time_priority: bool = False  # take in and acknowledge before every ordinary process (SCHED_FIFO); not training
    metrics_port: int | None = None  # serve counters to Prometheus on this machine; 0: any; see learner.metrics.url


def run_learner(args: LearnerArgs) -> int:
    """Train; return 0 when finished, or when stopped by SIGTERM or SIGINT with everything saved.

    Raises:
        SerlError: an argument, the task, a file or the port is not as it must be.
    """
    with before_others(is_wanted=args.real_time_priority):
        pass  # else it would be refused when half of the run is there
    task = load_task(args.task).config
    enable_compilation_cache()
    args.run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stop = threading.Event()
        stack.enter_context(set_by_signals(stop))
        stack.enter_context(dying_together())
        perception = perception_for(task)
        log = stack.enter_context(closing(EpisodeLog(args.run / "experience", perception.digest)))
        if log.position and not args.resume:
            raise ConfigError(
                f"run folder {args.run} holds {log.position} transitions already; go on with --resume, or name another"
            )
        _prepare_checkpoints(args)
        settings = _settings(args, task, is_started=log.position > 0)
        trainer_config = TrainerConfig(
            sac=SacConfig(
                utd_ratio=settings.utd,
                critics=settings.critics,
                batch_size=settings.batch,
                temperature_learning_rate=settings.temperature_lr,
            ),
            seed=settings.seed,
            online_capacity=settings.capacity,
        )
        config = LearnerConfig(
            max_env_steps=settings.steps,
            publish_every=settings.publish_every,
            checkpoint_every=settings.checkpoint_every,
            acknowledges_before_others=args.real_time_priority,
        )
        trainer = open_trainer(
            perception,
            trainer_config,
            log,
            run=args.run,
            demos=settings.demos_folder(args.run),
            max_env_steps=settings.steps,
        )
        settings.save(args.run)
        with before_others(is_wanted=args.real_time_priority):
            link = stack.enter_context(
                ZmqLearnerLink(
                    perception.digest,
                    host=args.host,
                    port=args.port,
                    keys=args.keys,
                    insecure_lan=args.insecure_lan,
                    spec=perception.stored,
                )
            )
        metrics = stack.enter_context(MetricsWriter(args.run / "metrics.jsonl"))
        learner = Learner(trainer, link, log, metrics, task, config, args.run)
        learner.start(resume=args.resume)
        if args.metrics_port is not None:
            page = LearnerMetrics(learner.numbers, time.monotonic)
            url = args.run / "learner.metrics.url"
            stack.enter_context(MetricsServer(page.samples, port=args.metrics_port, ready_file=url))
        logger.info("ready at %s", link.address)
        if args.ready_file is not None:
            write_atomically(args.ready_file, link.address.encode())
        spare_what_stays()
        learner.run(stop)
    return 0


def _prepare_checkpoints(args: LearnerArgs) -> None:
    checkpoints = Checkpoints(args.run / CHECKPOINTS)
    if args.fresh:
        if not args.resume:
            raise ConfigError("--fresh: learns again from the experience of a run; give --resume too")
        aside = checkpoints.set_aside()
        logger.warning("learning again from the start; the checkpoints from before are in %s", aside or "no folder")
    elif not args.resume and checkpoints.any_saved():
        raise ConfigError(
            f"run folder {args.run} holds checkpoints already; go on with --resume, learn again from the experience "
            "with --resume --fresh, or name another"
        )


def _settings(args: LearnerArgs, task: TaskConfig, *, is_started: bool) -> RunSettings:
    """Return the run's settings; one that was killed before it got anywhere may be resumed too."""
    settle = resumed_settings if args.resume and (is_started or (args.run / FILE).exists()) else new_settings
    return settle(
        args.run,
        task.name,
        args.demos,
        seed=args.seed,
        steps=args.steps,
        utd=args.utd,
        critics=args.critics,
        batch=args.batch,
        temperature_lr=args.temperature_lr,
        capacity=args.capacity,
        checkpoint_every=args.checkpoint_every,
        publish_every=args.publish_every,
    )


def open_trainer(
    perception: Perception,
    config: TrainerConfig,
    log: EpisodeLog,
    *,
    run: Path,
    demos: Path | None,
    max_env_steps: int = LearnerConfig.max_env_steps,
) -> Trainer:
    """Return the trainer of a run folder, over its open log.

    Raises:
        ConfigError: what `max_env_steps` can bring does not fit into the memory.
        DataError: there are no demonstrations where `demos` says, or they are of another task.
    """
    most_frames = 2 * max_env_steps  # each step a segment of its own
    check_memory(perception.stored, min(config.online_capacity, most_frames), available_bytes())
    demonstrations = load_demonstrations(demos, perception) if demos is not None else ()
    return Trainer(perception, config, demonstrations, log, Checkpoints(run / CHECKPOINTS))
