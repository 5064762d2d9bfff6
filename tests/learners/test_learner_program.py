"""The learner as a process: killed, resumed, told to stop."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from learners.main import LearnerArgs, run_learner
from serl_core.data.episode_log import EpisodeLog, save_episode
from serl_core.data.metrics_file import read_metrics
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError, SerlError
from serl_core.testing.episodes import make_episode
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink
from serl_core.types import EndReason, Observation, Provenance, Transition

TASK = load_task("ram_insertion").config
PATIENCE_S = 120.0


class Program:
    """One `serl learner`."""

    def __init__(self, run, *extra):
        self.ready = run / "address"
        self.ready.unlink(missing_ok=True)
        arguments = ["--task", "ram_insertion", "--run", str(run), "--port", "0", "--ready-file", str(self.ready)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serl_core.cli.main", "learner", *arguments, *extra],
            stderr=subprocess.PIPE,
            text=True,
        )

    def address(self):
        wait_for(lambda: self.ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()
        return self.ready.read_text()

    def end(self, number):
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(count):
    rng = np.random.default_rng(0)

    def frame():
        return Observation(proprio=rng.standard_normal(TASK.env_spec().proprio_size).astype(np.float32))

    for i in range(count):
        end = EndReason.SUCCESS if i % 10 == 9 else EndReason.RUNNING
        action = rng.uniform(-1, 1, TASK.action.spec.size).astype(np.float32)
        provenance = Provenance("session", i, i // 10, 1, i / 10)
        yield Transition(frame(), action, float(end), float(not end), frame(), False, end, provenance)


def deliver(address, transitions, until):
    link = ZmqActorLink(address)
    link.connect(Hello(actor_id="a", session="session", spec_digest=TASK.digest()), PATIENCE_S)
    status = []

    def is_reached():
        link.offer(transitions)
        status.append(link.poll(0.1))
        return status[-1] is not None and until(status[-1])

    wait_for(is_reached)
    link.close()


def test_a_killed_learner_goes_on_where_it_was_and_loses_nothing(tmp_path):
    """A resume without --demos went on without the demonstrations, and did not say so."""
    everything = list(steps(140))
    demonstration = make_episode(TASK.env_spec(), steps=7)
    save_episode(tmp_path / "demos" / "one.safetensors", demonstration, task_digest=TASK.digest())
    first = Program(tmp_path, "--demos", str(tmp_path / "demos"), "--checkpoint-every", "50", "--utd", "1")
    deliver(first.address(), everything[:120], lambda status: status.trained_env_steps >= 110)

    same_run = LearnerArgs(task="ram_insertion", run=tmp_path, port=0)
    with pytest.raises(SerlError, match="another learner"):
        run_learner(same_run)
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with pytest.raises(SerlError, match="--resume"):
        run_learner(same_run)

    second = Program(tmp_path, "--resume")
    deliver(second.address(), everything, lambda status: status.trained_env_steps >= 140)
    status, said = second.end(signal.SIGTERM)
    assert status == 0, said
    log = EpisodeLog(tmp_path / "experience", TASK.digest())
    assert [transition.provenance.sequence for transition in log.transitions()] == list(range(140))
    log.close()
    events = [record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == "event"]
    assert [event["event"] for event in events] == ["resumed", "stopped"]
    assert events[0]["demonstration_steps"] == 7


def test_demonstrations_of_another_task_are_refused_with_both_digests(tmp_path):
    """The task's digest stood in each file and nobody looked at it."""
    demonstration = make_episode(TASK.env_spec())
    save_episode(tmp_path / "demos" / "one.safetensors", demonstration, task_digest="beef")
    sentence = rf"one\.safetensors was recorded for a task of digest beef, this one has {TASK.digest()}: record again"
    with pytest.raises(SerlError, match=sentence):
        run_learner(LearnerArgs(task="ram_insertion", run=tmp_path, port=0, demos=tmp_path / "demos"))


@pytest.mark.parametrize(("steps", "frames"), [(50, 100), (10**9, 200_000)])
def test_a_run_that_outgrows_the_memory_is_refused_at_its_start(tmp_path, monkeypatch, steps, frames):
    """FAULTS M2. A short run needs no room for the whole capacity."""
    monkeypatch.setattr("learners.main.available_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match=rf"replay buffer: {frames} frames"):
        run_learner(LearnerArgs(task="ram_insertion", run=tmp_path, port=0, steps=steps))
    assert not (tmp_path / "learner.json").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"demos": Path("nowhere")}, "no folder nowhere"),
        ({"steps": 0}, "max_env_steps"),
        ({"critics": 0}, "target_critics"),
        ({"capacity": 1}, "at least 2 frames, got 1"),
        ({"task": "nonsense"}, "no such task"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_listens(tmp_path, wrong, sentence):
    args = LearnerArgs(
        **({"task": "ram_insertion", "run": tmp_path, "port": 0, "ready_file": tmp_path / "ready"} | wrong)
    )
    with pytest.raises(SerlError, match=sentence):
        run_learner(args)
    assert not (tmp_path / "ready").exists()


def test_a_learner_that_may_not_go_before_others_says_so_before_anything_else(tmp_path, monkeypatch):
    def refuse():
        raise ConfigError("--real-time-priority: the system does not grant it")

    monkeypatch.setattr("serl_core.scheduling.go_before_others", refuse)
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="real-time-priority"):
        run_learner(LearnerArgs(task="nowhere", run=run, real_time_priority=True))
    assert not run.exists()
