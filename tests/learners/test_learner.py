import threading

import jax
import numpy as np
import pytest

from learners.learner import Learner, LearnerConfig
from serl_core.agents.policy import ActingPolicy
from serl_core.data import episode_log
from serl_core.data.episode_file import load_steps
from serl_core.data.metrics_file import MetricsWriter, read_metrics
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError, DataError, LearningError
from serl_core.networks.weights import load_policy
from serl_core.transport.in_process import InProcessHub
from serl_core.transport.interface import Hello
from tests.learners.toy import SAC, Run
from tests.serl_core.agents.toy import SPEC, Line, stream

TASK = load_task("ram_insertion").config


class Desk:
    """A learner and one actor that sends what it is told, in one thread."""

    def __init__(self, folder, *, resume=False, capacity=1000, **config):
        self.folder = folder
        self.run = Run(folder, online_capacity=capacity)
        self.link = InProcessHub().open_learner("toy")
        self.hub = self.link._hub
        self.metrics = MetricsWriter(folder / "metrics.jsonl")
        settings = LearnerConfig(**({"max_env_steps": 60, "report_period_s": 0.0} | config))
        self.learner = Learner(self.run.trainer, self.link, self.run.log, self.metrics, TASK, settings, folder)
        self.learner.start(resume=resume)
        self.actor = self.hub.actor()
        self.welcome = self.actor.connect(Hello(actor_id="a", session="line", spec_digest="toy"), 0.0)

    def send(self, transitions):
        """Offer and train in lockstep; return whether the run is finished."""
        for transition in transitions:
            self.actor.offer([transition])
            if self.learner.advance(0.0):
                return True
        return False

    def records(self, kind):
        return [record for record in read_metrics(self.folder / "metrics.jsonl") if record["kind"] == kind]

    def stop(self):
        self.actor.close()
        self.link.close()
        self.run.stop()
        self.metrics.__exit__(None, None, None)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.stop()


def test_there_are_weights_before_the_first_transition(desk):
    assert desk.actor.newest_weights(0).version == 1


def test_what_is_acknowledged_is_on_the_disk(desk):
    """Transitions were acknowledged as soon as they were written, up to a second before they were synced."""
    steps = stream(0, 9)
    assert not steps[-1].end  # the end of an episode is synced at once
    desk.send(steps)
    status = desk.actor.poll()
    assert status.received_sequence == 8
    assert status.env_steps == 9
    assert status.acked_sequence == desk.run.log.synced_sequences().get("line", -1) < 8
    desk.run.clock.advance(1.0)
    desk.send(steps[8:])  # nothing new: time alone brings it to the disk
    assert desk.actor.poll().acked_sequence == 8
    assert desk.run.log.synced_sequences() == {"line": 8}


def test_a_checkpoint_acknowledges_what_it_has_synced(tmp_path):
    desk = Desk(tmp_path, checkpoint_every=30)
    desk.send(stream(0, 30))
    assert desk.actor.poll().acked_sequence == 29
    desk.stop()


def test_nothing_is_acknowledged_that_the_log_refused(desk, monkeypatch):
    def full(_):
        raise DataError("no space")

    monkeypatch.setattr(desk.run.log, "append", full)
    with pytest.raises(DataError, match="no space"):
        desk.send(stream(0, 1))
    assert desk.actor.poll().acked_sequence == -1


def test_a_backlog_is_taken_in_at_once_and_paid_step_by_step(desk):
    desk.actor.offer(stream(0, 50))
    desk.learner.advance(0.0)
    assert desk.actor.poll().env_steps == 50
    assert desk.actor.poll() is None
    desk.learner.advance(0.0)
    assert desk.actor.poll().trained_env_steps == 22


def test_weights_are_published_each_ten_steps(desk):
    steps = stream(0, 45)
    desk.send(steps[:39])
    assert desk.actor.newest_weights(0).version == 2  # at 30
    desk.send(steps[39:])
    weights = desk.actor.newest_weights(2)
    assert weights.version == 3
    assert weights.env_steps == 40
    policy = ActingPolicy(SPEC, SAC.policy, seed=0)
    policy.load(weights.params)
    assert np.isfinite(policy.mode(Line(0).observe())).all()


def test_a_finished_run_leaves_its_policy_and_tells_the_actors(desk):
    assert desk.send(stream(0, 70))
    assert desk.actor.poll().is_finished
    saved = load_policy(desk.folder / "policy.safetensors")
    assert saved.facts["task"] == TASK.name
    assert saved.facts["task_digest"] == "toy"
    assert saved.facts["env_steps"] == 60
    assert saved.facts["sac"]["gamma"] == SAC.gamma
    jax.tree.map(np.testing.assert_array_equal, saved.params, dict(desk.run.trainer.final_policy().params))
    assert desk.records("event")[-1]["event"] == "finished"
    assert desk.run.checkpoints.newest().facts["trained_env_steps"] == 60


def test_the_utd_ratio_that_is_told_is_counted(desk, monkeypatch):
    """The configured number was told, whatever was done."""
    sample = desk.run.trainer._mixture.sample
    monkeypatch.setattr(desk.run.trainer._mixture, "sample", lambda rng, _, batch: sample(rng, 3, batch))
    desk.send(stream(0, 25))
    update = desk.records("update")[-1]
    assert (update["updates"], update["utd_ratio"]) == (15, 3.0)
    assert SAC.utd_ratio != 3


def test_metrics_tell_updates_and_episodes(desk):
    steps = stream(0, 50)
    desk.send(steps)
    update = desk.records("update")[-1]
    assert update["env_steps"] == update["trained_env_steps"] == update["online_transitions"] == 50
    assert update["updates"] == 30 * SAC.utd_ratio
    assert update["utd_ratio"] == update["updates"] / (50 - 20)
    assert update["debt"] == 0
    assert update["policy_version"] == 4
    assert {"critic_loss", "policy_loss", "q_mean", "entropy", "temperature", "skipped", "updates_per_s"} <= set(update)
    episodes = desk.records("episode")
    assert len(episodes) == sum(bool(step.end) for step in steps)
    assert sum(record["length_steps"] for record in episodes) <= 50


def test_a_checkpoint_that_fails_is_told_and_training_goes_on(tmp_path, monkeypatch):
    desk = Desk(tmp_path, checkpoint_every=30)

    def full(*_):
        raise DataError("no space")

    monkeypatch.setattr(desk.run.checkpoints, "save", full)
    desk.send(stream(0, 40))
    assert [event["reason"] for event in desk.records("event")] == ["no space"]
    assert desk.run.trainer.pacing.trained_env_steps == 40
    desk.stop()


def test_training_that_went_wrong_is_told_before_it_ends(desk):
    with pytest.raises(LearningError):
        desk.send([step._replace(reward=1e30) for step in stream(0, 50)])
    assert desk.records("event")[-1]["event"] == "failed"


def test_a_stop_saves_and_a_resume_goes_on_without_telling_twice(tmp_path):
    steps = stream(0, 70)
    desk = Desk(tmp_path)
    desk.send(steps[:35])
    before = desk.actor.newest_weights(0).version
    assert desk.learner.run(stopped()) is False
    told = desk.records("episode")
    desk.stop()

    desk = Desk(tmp_path, resume=True)
    assert desk.welcome.acked_sequence == 34
    assert desk.actor.newest_weights(0).version > before
    assert desk.records("episode") == told
    assert desk.send(steps)  # the actor offers all again
    assert desk.link.counters()["duplicate"] == 35
    ends = [record["episode"] for record in desk.records("episode")]
    assert ends == list(range(len(ends)))
    assert sum(record["length_steps"] for record in desk.records("episode")) <= 60
    desk.stop()


def test_an_episode_that_ended_before_a_kill_is_told_at_its_step_also_when_an_older_one_was_moved_away(tmp_path):
    desk = Desk(tmp_path)
    desk.send(stream(0, 35))
    told = desk.records("episode")
    desk.learner.run(stopped())
    desk.stop()
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"episode"' not in line))
    oldest = min((tmp_path / "experience" / "episodes").iterdir())
    oldest.rename(tmp_path / oldest.name)

    desk = Desk(tmp_path, resume=True)
    assert len(told) > 1
    assert [record["env_steps"] for record in desk.records("episode")] == [r["env_steps"] for r in told[1:]]
    desk.stop()


def test_what_a_resume_does_not_read_counts_in_what_it_tells(tmp_path, monkeypatch):
    """Episodes that a small buffer has overwritten; the running means are over 20 all the same."""
    steps = stream(0, 400)
    whole = Desk(tmp_path / "whole", capacity=30, max_env_steps=500)
    whole.send(steps)
    expected = timeless(whole.records("episode"))
    whole.stop()

    desk = Desk(tmp_path / "run", capacity=30, max_env_steps=500)
    desk.send(steps[:350])
    desk.learner.run(stopped())
    desk.stop()
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(True)
    last = max(number for number, line in enumerate(lines) if '"episode"' in line)
    path.write_text("".join(lines[:last] + lines[last + 1 :]))  # a kill came before it
    read = []
    monkeypatch.setattr(episode_log, "load_steps", lambda path: read.append(path) or load_steps(path))
    desk = Desk(tmp_path / "run", resume=True, capacity=30, max_env_steps=500)
    desk.send(steps)
    assert timeless(desk.records("episode")) == expected
    assert 2 <= len(read) < 10 < len(expected)
    desk.stop()


def timeless(records):
    return [{name: value for name, value in record.items() if name != "time"} for record in records]


def stopped():
    stop = threading.Event()
    stop.set()
    return stop


@pytest.mark.parametrize("name", ["max_env_steps", "publish_every", "checkpoint_every"])
def test_an_impossible_schedule_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=name):
        LearnerConfig(**{name: 0})


def too_long(step):
    return step._replace(action=np.zeros(9, np.float32))


def test_a_transition_that_does_not_fit_is_told_and_never_in_the_log(tmp_path):
    """It was logged, then refused by the buffer, and by that of each resume."""
    steps = stream(0, 30)
    desk = Desk(tmp_path)
    desk.send(steps[:24])
    with pytest.raises(DataError, match=r"transition 24 of session line is refused .*action has shape \(9,\)"):
        desk.send([too_long(steps[24])])
    assert desk.run.log.last_sequences() == {"line": 23}
    event = desk.records("event")[-1]
    assert event["event"] == "failed"
    assert "transition 24" in event["reason"]
    desk.stop()
    desk = Desk(tmp_path, resume=True)
    desk.send(steps)
    assert desk.run.trainer.pacing.env_steps == 30
    desk.stop()


def test_nor_is_one_that_comes_after_the_end_of_the_training(desk):
    steps = stream(0, 70)
    assert desk.send(steps)
    logged, received = desk.run.log.position, desk.link.counters()["received"]
    desk.link.receive(0.0)
    desk.actor.offer([too_long(steps[received])])
    with pytest.raises(DataError, match="is refused and not logged"):
        desk.learner._part()
    assert desk.run.log.position == logged
