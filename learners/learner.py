"""The learner process: takes in what actors send, trains as it was paid for, publishes weights."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from learners.alarms import Alarms
from learners.checkpoint_writer import CheckpointWriter
from learners.intake import Intake
from learners.learner_metrics import LearnerNumbers
from learners.metrics import EpisodeTracker
from learners.relabelling import Relabelling
from learners.trainer import Trainer
from serl_core.config import TaskConfig
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.metrics_file import MetricsWriter, Record, read_metrics
from serl_core.errors import ConfigError, DataError, LearningError
from serl_core.failpoints import failpoint
from serl_core.networks.weights import save_policy
from serl_core.transport.interface import LearnerLink
from serl_core.types import Transition

logger = logging.getLogger(__name__)

PART_TIMEOUT_S = 5.0
IDLE_WAIT_S = 0.2  # how long to wait for transitions when there is nothing to train


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How long to train, and how often to tell."""

    max_env_steps: int = 12_000
    publish_every: int = 10  # env steps; the paper's 50 updates at a UTD of 4 to 5
    checkpoint_every: int = 1000  # env steps
    report_period_s: float = 1.0  # of update records
    acknowledges_before_others: bool = False  # takes in and acknowledges before every ordinary process has its turn

    def __post_init__(self) -> None:
        for name in ("max_env_steps", "publish_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"LearnerConfig.{name}: must be at least 1 env step, got {getattr(self, name)}")


class Learner:
    """One run, from start or resume to the end or to a stop.

    `advance` does all in one thread, the same to the bit for a seed. `run` takes in transitions and
    writes checkpoints beside it.
    """

    def __init__(
        self,
        trainer: Trainer,
        link: LearnerLink,
        log: EpisodeLog,
        metrics: MetricsWriter,
        task: TaskConfig,
        config: LearnerConfig,
        run: Path,
    ) -> None:
        self._trainer = trainer
        self._link = link
        self._log = log
        self._intake = Intake(link, log, trainer.stored, goes_before_others=config.acknowledges_before_others)
        self._writer = CheckpointWriter(trainer.checkpoints)
        self._metrics = metrics
        self._task = task
        self._config = config
        self._run = run
        self._relabelling = Relabelling(run, trainer)
        told = read_metrics(run / "metrics.jsonl")
        self._episodes = EpisodeTracker(task.control_hz, [r for r in told if r["kind"] == "episode"])
        self._told_relabels = {r["number"] for r in told if r["kind"] == "relabel"}
        self._alarms = Alarms(task.reward.range, trainer.config.sac.gamma)
        self._told_alarms: set[str] = set()
        self._published_s: float | None = None
        self._is_stopped = False  # the training has gone wrong
        self._env_steps_told = 0
        self._saved_env_steps = -1
        self._last_report_s = 0.0
        self._updates_at_report = 0

    def start(self, *, resume: bool) -> None:
        """Take up the run (with `resume`, where it was left), compile, and offer the first weights."""
        if resume:
            untold: list[Record] = []
            tail = self._trainer.resume(lambda step: untold.extend(self._new_episodes(step)), self._episodes.told)
            # All before the untold: episodes that were moved out of the log, or that the buffer has overwritten.
            passed_over = self._trainer.pacing.env_steps + len(tail) - self._env_steps_told
            self._env_steps_told += passed_over
            for record in untold:
                self._metrics.write("episode", record | {"env_steps": record["env_steps"] + passed_over})
            for line in self._relabelling.resume():
                self._episodes.relabel(line.session, line.episode, self._relabelling.label_of(line))
            self._link.restore(self._log.synced_sequences())
            self._trainer.insert(tail)
            demonstrations = len(self._trainer.demonstrations)
            self._event("resumed", logged_after_checkpoint=len(tail), demonstration_steps=demonstrations)
        self._trainer.warm_up()
        self._last_report_s, self._updates_at_report = time.monotonic(), self._trainer.updates
        self._publish()
        self._report()

    def run(self, stop: threading.Event) -> bool:
        """Train until the run is finished (then return True) or until `stop` is set (then False).

        Either way everything is in a checkpoint; a finished run also has its `policy.safetensors`.

        Raises:
            LearningError: training has gone wrong. It ends at once, but what the actors make is kept, and the last
                sound weights are there for them, until `stop` is set: that is when this is raised.
        """
        is_finished = False
        with self._intake.in_background(), self._writer.in_background():
            while not (is_finished or stop.is_set()):
                try:
                    is_finished = self.advance(IDLE_WAIT_S)
                except LearningError as error:
                    logger.critical("TRAINING HAS STOPPED: %s. Actors keep the last weights until this ends", error)
                    while not stop.is_set():
                        self._insert(self._take(IDLE_WAIT_S))
                    raise
                if is_finished:
                    self._part()
        if is_finished:
            self._tell_checkpoints()
            return True
        self._insert(self._intake.left_over())
        self._save()
        self._event("stopped")
        return False

    def counters(self) -> Mapping[str, float]:
        """Return what this run has to tell in numbers, besides what its link counts."""
        return {
            "replay_ratio": self._trainer.utd_ratio,
            "weights_version": self._trainer.policy_version,
            "log_refused": self._intake.refused_writes,
            **self._writer.counters(),
        }

    def numbers(self) -> LearnerNumbers:
        """Return what the page of metrics shows. For any thread."""
        trainer = self._trainer
        return LearnerNumbers(
            link=self._link.counters(),
            counts=self.counters(),
            env_steps=trainer.pacing.env_steps,
            trained_env_steps=trainer.pacing.trained_env_steps,
            updates=trainer.updates,
            published_s=self._published_s,
            nonfinite=trainer.nonfinite,
            alarms=dict(self._alarms.raised),
            rewards_out_of_range=self._alarms.rewards_out_of_range,
            is_stopped=self._is_stopped,
        )

    def advance(self, timeout_s: float) -> bool:
        """Take in what has come and do the updates of at most one env step; return True once the run is finished.

        Waits up to `timeout_s` for transitions if there is nothing to train.
        """
        if self._is_finished():
            self._finish()
            return True
        self._insert(self._take(0.0 if self._trainer.can_update() else timeout_s))
        self._relabel()
        if self._trainer.can_update():
            self._train_one_step()
        self._tell_checkpoints()
        return False

    def _is_finished(self) -> bool:
        return self._trainer.pacing.trained_env_steps >= self._config.max_env_steps

    def _take(self, timeout_s: float) -> list[Transition]:
        """Return new transitions, logged; one that does not fit ends the run before it is in the log."""
        try:
            return self._intake.take(timeout_s)
        except DataError as error:
            self._event("failed", reason=str(error))
            raise

    def _insert(self, transitions: Sequence[Transition]) -> None:
        if not transitions:
            return
        self._trainer.insert(transitions)
        self._alarms.see_rewards(transitions)
        for transition in transitions:
            for record in self._new_episodes(transition):
                self._metrics.write("episode", record)
        self._report()

    def _relabel(self) -> None:
        """Take up what people have corrected since the last step."""
        for line, is_in_buffer in self._relabelling.apply_due():
            label = self._relabelling.label_of(line)
            self._episodes.relabel(line.session, line.episode, label)
            if line.number in self._told_relabels:
                continue
            self._metrics.write(
                "relabel",
                {
                    "number": line.number,
                    "session": line.session,
                    "episode": line.episode,
                    "label": label,
                    "operator": line.operator,
                    "in_buffer": is_in_buffer,
                },
            )

    def _train_one_step(self) -> None:
        try:
            values = self._trainer.update()
        except LearningError as error:
            self._is_stopped = True
            self._event("failed", reason=str(error))
            raise
        self._alarms.see_values(values)
        trained = self._trainer.pacing.trained_env_steps
        if trained % self._config.publish_every == 0:
            self._publish()
        self._report()
        if trained % self._config.checkpoint_every == 0:
            self._save()
        self._tell_updates(values)

    def _publish(self) -> None:
        """Publish the policy as it is now, unless something is wrong with it: then the last one stays."""
        if self._tell_alarms():
            return
        try:
            weights = self._trainer.policy_weights()
        except LearningError as error:
            self._event("not_published", reason=str(error))
            return
        self._link.publish(weights)
        self._published_s = time.monotonic()
        failpoint("learner.published")

    def _tell_alarms(self) -> bool:
        """Write an event for each alarm that was raised or has ended since; return whether one is raised."""
        raised = self._alarms.raised
        for name in sorted(raised.keys() - self._told_alarms):
            self._event("alarm", alarm=name, reason=raised[name])
        for name in sorted(self._told_alarms - raised.keys()):
            self._event("alarm_ended", alarm=name)
        self._told_alarms = set(raised)
        return bool(raised)

    def _report(self, *, is_finished: bool = False) -> None:
        pacing = self._trainer.pacing
        self._link.report(pacing.env_steps + self._intake.waiting, pacing.trained_env_steps, is_finished)

    def _save(self) -> None:
        trained = self._trainer.pacing.trained_env_steps
        self._tell_checkpoints()
        if trained == self._saved_env_steps:
            return
        try:
            snapshot = self._trainer.snapshot()
        except LearningError as error:
            logger.error("%s", error)
            self._event("checkpoint_failed", reason=str(error))
            return
        self._intake.sync()  # a checkpoint is never ahead of the log
        self._saved_env_steps = trained
        self._writer.put(snapshot)
        self._tell_checkpoints()

    def _tell_checkpoints(self) -> None:
        for written in self._writer.results():
            if written.error is None:
                continue
            logger.error("%s", written.error)  # a full disk must not end the training
            self._event("checkpoint_failed", reason=str(written.error), **self._writer.counters())
            if self._saved_env_steps == written.trained_env_steps:
                self._saved_env_steps = -1  # the end of the run tries again

    def _finish(self) -> None:
        self._save()
        weights = self._trainer.final_policy()
        perception = self._trainer.perception
        facts = {
            "task": self._task.name,
            "task_digest": perception.digest,
            "encoder": perception.frozen.identity if perception.frozen is not None else None,
            "spec": msgspec.to_builtins(perception.spec),
            "sac": msgspec.to_builtins(self._trainer.config.sac),
            "env_steps": self._trainer.pacing.trained_env_steps,
            "version": weights.version,
        }
        save_policy(self._run / "policy.safetensors", dict(weights.params), facts)
        self._event("finished")
        self._report(is_finished=True)
        logger.info("finished after %d env steps", self._trainer.pacing.trained_env_steps)

    def _part(self) -> None:
        """Keep what the actors still send until they have heard that training is over and are gone."""
        deadline_s = time.monotonic() + PART_TIMEOUT_S
        while self._link.counters()["connected"] and time.monotonic() < deadline_s:
            if self._take(IDLE_WAIT_S):
                self._intake.sync()
                self._report(is_finished=True)

    def _new_episodes(self, transition: Transition) -> list[Record]:
        """Return the record of the episode that a transition ends, unless a start before has written it."""
        self._env_steps_told += 1
        record = self._episodes.add(transition, self._env_steps_told)
        return [] if record is None else [record]

    def _tell_updates(self, values: dict[str, float]) -> None:
        now_s = time.monotonic()
        elapsed_s = now_s - self._last_report_s
        if not values or elapsed_s < self._config.report_period_s:
            return
        trainer = self._trainer
        self._metrics.write(
            "update",
            {
                "env_steps": trainer.pacing.env_steps,
                "trained_env_steps": trainer.pacing.trained_env_steps,
                "updates": trainer.updates,
                "updates_per_s": (trainer.updates - self._updates_at_report) / elapsed_s,
                "utd_ratio": trainer.utd_ratio,
                "debt": trainer.pacing.debt,
                "policy_version": trainer.policy_version,
                "online_transitions": len(trainer.online),
                "demo_transitions": len(trainer.demonstrations) + len(trainer.online.interventions),
                **values,
                **self.counters(),
                **self._link.counters(),
            },
        )
        self._last_report_s, self._updates_at_report = now_s, trainer.updates

    def _event(self, event: str, **facts: object) -> None:
        self._metrics.write("event", {"event": event, "env_steps": self._trainer.pacing.env_steps, **facts})
