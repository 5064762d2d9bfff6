"""Rows N: numbers that are not finite, or out of their range, on each way they could take."""

import copy
import threading
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from learners.learner import Learner, LearnerConfig
from learners.learner_metrics import LearnerMetrics
from serl_core.agents.policy import ActingPolicy
from serl_core.agents.sac import Sac
from serl_core.data.metrics_file import MetricsWriter, read_metrics
from serl_core.envs.task import load_task
from serl_core.errors import DataError, LearningError, TransportError
from serl_core.metrics_text import render
from serl_core.transport import wire
from serl_core.transport.codec import decode_weights, encode_transition, encode_weights
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from tests.faults.fault_rows import row
from tests.learners.toy import SAC, Run
from tests.serl_core.agents.toy import SPEC, Line, batch, stream

TASK = load_task("ram_insertion").config
SHAPE = (SAC.utd_ratio, SAC.batch_size)
AGENT = Sac(SPEC, SAC)


@pytest.fixture(autouse=True)
def one_compiled_agent(monkeypatch):
    """For all trainers of this file: an agent holds no state."""
    monkeypatch.setattr("learners.trainer.Sac", lambda *_: AGENT)


class Lab:
    """A learner that runs in a thread, as in its program, and an actor's link to it."""

    def __init__(self, folder):
        self.folder = folder
        self.run = Run(folder)
        self.link = ZmqLearnerLink("toy").open()
        self.metrics = MetricsWriter(folder / "metrics.jsonl")
        settings = LearnerConfig(max_env_steps=100_000, publish_every=1, checkpoint_every=10_000)
        self.learner = Learner(self.run.trainer, self.link, self.run.log, self.metrics, TASK, settings, folder)
        self.learner.start(resume=False)
        self.page = LearnerMetrics(self.learner.numbers, time.monotonic)
        self.actor = ZmqActorLink(self.link.address)
        self.actor.connect(Hello(actor_id="a", session="line", spec_digest="toy"), 10.0)
        self.failure = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._sent = 0

    def _run(self):
        try:
            self.learner.run(self._stop)
        except LearningError as error:
            self.failure = error

    def start(self):
        self._thread.start()

    def send(self, transitions):
        for transition in transitions:
            self.actor.offer([transition])

    def until(self, is_true, timeout_s=60.0):
        end_s = time.monotonic() + timeout_s
        while not is_true():
            assert time.monotonic() < end_s, self.numbers()
            time.sleep(0.02)

    def numbers(self):
        """What a scrape of /metrics tells."""
        families = text_string_to_metric_families(render(self.page.samples()))
        names = {sample.name: sample.value for family in families for sample in family.samples}
        return {name.removeprefix("serl_").removesuffix("_total"): value for name, value in names.items()}

    def version(self):
        weights = self.actor.newest_weights(0)
        return weights.version if weights is not None else 0

    def until_published(self, version):
        """Wait until the actor has this version: the learner counts a step as trained before it publishes."""
        self.until(lambda: self.version() == version == self.numbers()["weights_version"])

    def trained(self):
        return self.numbers()["trained_env_steps"]

    def stop(self):
        self._stop.set()
        self._thread.join()
        self.actor.close()
        self.link.close()
        self.run.stop()
        self.metrics.__exit__(None, None, None)

    def events(self):
        return [r for r in read_metrics(self.folder / "metrics.jsonl") if r["kind"] == "event"]


@contextmanager
def started(folder):
    lab = Lab(folder)
    lab.start()
    try:
        yield lab
    finally:
        lab.stop()


def extreme(step):
    """A step whose numbers are finite, and too large for a network."""
    far = step.observation._replace(proprio=np.full(2, 3e38, np.float32))
    return step._replace(observation=far, next_observation=far)


def broken_at(steps, number, **changes):
    observation = steps[number].observation._replace(proprio=np.array([np.nan, 1.0], np.float32))
    steps[number] = steps[number]._replace(observation=observation, **changes)
    return steps


@row("N1")
def test_a_nan_goes_into_quarantine_at_the_actor_and_the_rest_to_the_learner(tmp_path, observed, seed):
    with started(tmp_path) as lab, Spool(tmp_path / "a.spool", digest="toy") as spool:
        steps = broken_at(stream(seed, 40, "n1"), 17)
        sender = SpooledSender(spool, lab.actor)
        sender.connect(Hello(actor_id="a", session="n1", spec_digest="toy"), 10.0)
        for step in steps:
            sender.send(step)
            sender.pump()
        assert sender.drain(30.0)
        counts = sender.counters()
        (aside,) = spool.quarantined()
        assert (aside.session, aside.sequence) == ("n1", 17)
        assert {name: counts[name] for name in ("made", "acknowledged", "spooled", "quarantined", "dropped")} == {
            "made": 40,
            "acknowledged": 39,
            "spooled": 0,
            "quarantined": 1,
            "dropped": 0,
        }
        lab.until(lambda: lab.numbers()["env_steps"] == 39)
        logged = [transition.provenance.sequence for transition in lab.run.log.transitions()]
        assert logged == [n for n in range(40) if n != 17]
    with Spool(tmp_path / "a.spool", digest="toy") as spool:
        assert len(spool.quarantined()) == 1
    observed("1 of 40 in quarantine on the disk, the other 39 logged by the learner, made = acked + quarantined")


@row("N1")
def test_the_learner_refuses_a_nan_that_no_actor_has_looked_at(tmp_path, observed, seed):
    with started(tmp_path) as lab, zmq.Context() as context, context.socket(zmq.DEALER) as line:
        line.setsockopt(zmq.LINGER, 0)
        line.connect(lab.link.address)
        line.send_multipart([wire.encode(wire.Greeting(wire.PROTOCOL, "raw", "raw", "toy"))])
        assert line.poll(10_000)
        (step,) = broken_at(stream(seed, 1, "raw"), 0)
        record = encode_transition(step, is_checked=False)
        line.send_multipart([wire.encode(wire.Offer("raw", 0, -1, 0)), record])
        lab.until(lambda: lab.numbers()["link_refused"] == 1)
        assert "raw" not in lab.run.log.last_sequences()
        lab.send(stream(seed, 5))
        lab.until(lambda: lab.run.log.last_sequences() == {"line": 4})
    observed("and the learner rejects one that comes past the actor's check")


@row("N2")
def test_an_update_of_nan_changes_nothing_and_is_counted_by_its_cause(observed, seed):
    agent = AGENT
    state, _ = agent.update(agent.init(key=jax.random.key(seed)), batch(seed, SHAPE))
    before = jax.tree.map(np.array, state._replace(key=None))
    broken = batch(seed + 1, SHAPE)
    broken.observation.proprio[...] = np.nan
    state, metrics = agent.update(state, broken)
    changed = [
        name
        for name in before._fields
        if name not in ("key", "skipped", "skipped_in_a_row")
        and not all(
            np.array_equal(old, new)
            for old, new in zip(
                jax.tree.leaves(getattr(before, name)), jax.tree.leaves(getattr(state, name)), strict=True
            )
        )
    ]
    assert changed == []
    counts = int(metrics.values["nonfinite_loss"]), int(metrics.values["nonfinite_grad"])
    assert counts == (SHAPE[0] + 1, 0)
    state, metrics = agent.update(state, batch(seed + 2, SHAPE))
    assert (int(metrics.values["nonfinite_loss"]), int(metrics.values["nonfinite_grad"])) == (0, 0)
    assert int(state.skipped) == SHAPE[0] + 1
    observed(f"NaN batch: {counts[0]} of {SHAPE[0] + 1} updates skipped, state equal to the bit; the next one counts")


@row("N2")
def test_ten_updates_in_a_row_stop_the_training_and_the_last_sound_weights_stay_published(
    tmp_path, observed, seed, caplog
):
    with started(tmp_path) as lab:
        good = stream(seed, 30)
        lab.send(good)
        lab.until(lambda: lab.trained() == 30 and lab.version() >= 10)
        bad = [extreme(step) for step in stream(seed, 90)[30:60]]
        lab.send(bad)
        lab.until(lambda: lab.numbers()["training_stopped"] == 1)
        lab.until(lambda: lab.actor.poll(0.05) is None)
        lab.until_published(lab.numbers()["weights_version"])
        version = lab.version()
        trained = lab.trained()
        lab.send(stream(seed, 90)[60:])  # the actor goes on
        lab.until(lambda: lab.run.log.synced_sequences().get("line") == 89)
        assert lab.trained() == trained < 90
        weights = lab.actor.newest_weights(0)
        assert weights.version == version
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dict(weights.params)))
        late = ZmqActorLink(lab.link.address)
        late.connect(Hello(actor_id="late", session="late", spec_digest="toy"), 10.0)
        lab.until(lambda: late.newest_weights(0) is not None)
        assert late.newest_weights(0).version == version
        late.close()
        numbers = lab.numbers()
        assert numbers["nonfinite_loss"] >= 10
        assert lab.events()[-1]["event"] == "failed"
    assert isinstance(lab.failure, LearningError)
    assert caplog.text.count("TRAINING HAS STOPPED") == 1
    observed(
        f"stopped after {numbers['nonfinite_loss']:.0f} updates with a loss that is not finite; version {version} "
        "stays published, also for an actor that comes later; 30 further transitions logged and acknowledged"
    )


@row("N3")
def test_weights_with_nan_are_not_published_and_not_saved(tmp_path, observed, seed):
    with started(tmp_path) as lab:
        lab.send(stream(seed, 30))
        lab.until_published(11)  # the first, and one for each step after the 20 that only fill the buffer
        version, trainer = lab.version(), lab.run.trainer
        sound = trainer._state.policy
        broken = jax.tree.map(lambda leaf: leaf * np.nan, sound)
        trainer._state = trainer._state._replace(policy=broken, averaged_policy=broken)
        with pytest.raises(LearningError, match="neither published nor saved"):
            trainer.save()
        lab.learner._publish()
        assert lab.version() == version
        assert lab.numbers()["nonfinite_weights"] == 2
        assert lab.events()[-1]["event"] == "not_published"
        assert not list(tmp_path.glob("checkpoints/*"))
        trainer._state = trainer._state._replace(policy=sound, averaged_policy=trainer._state.critic | sound)
    observed("neither published nor saved, counted in nonfinite_weights; the version from before stays")


@row("N3")
def test_an_actor_adopts_no_weights_that_are_changed_or_not_finite(tmp_path, observed, seed):
    run = Run(tmp_path)
    weights = run.trainer.policy_weights()
    run.stop()
    record = bytes(encode_weights(weights))
    rng = np.random.default_rng(seed)
    refused = 0
    for place in rng.choice(len(record), 300, replace=False):
        flipped = bytearray(record)
        flipped[place] ^= 1 << rng.integers(8)
        with pytest.raises(TransportError):
            decode_weights(bytes(flipped))
        refused += 1
    policy = ActingPolicy(SPEC, SAC.policy, seed=0)
    policy.load(weights.params)
    before = policy.mode(Line(0).observe())
    params = copy.deepcopy(dict(weights.params))
    params["mlp"]["out"]["kernel"][0, 0] = np.nan
    with pytest.raises(TransportError, match="not finite"):
        encode_weights(weights._replace(params=params))
    with pytest.raises(DataError, match="not finite"):
        policy.load(params)
    np.testing.assert_array_equal(policy.mode(Line(0).observe()), before)
    observed(f"{refused} records with a flipped bit refused by their hash; NaN refused at encode and at load")


@row("N5")
def test_a_reward_out_of_range_is_an_alarm_and_nothing_is_published_meanwhile(tmp_path, observed, seed):
    with started(tmp_path) as lab:
        steps = stream(seed, 60)
        lab.send(steps[:30])
        lab.until_published(11)  # the first, and one for each step after the 20 that only fill the buffer
        version = lab.version()
        lab.send([steps[30]._replace(reward=7.0), *steps[31:]])
        lab.until(lambda: lab.trained() == 60)
        numbers = lab.numbers()
        assert lab.version() == numbers["weights_version"] == version
        assert numbers["rewards_out_of_range"] == numbers["alarm"] == 1
        (event,) = [event for event in lab.events() if event["event"] == "alarm"]
        assert event["alarm"] == "reward_range"
    observed(f"alarm at reward 7; trained on to step 60 and stayed at version {version}")


@row("N5")
def test_while_values_are_beyond_ten_times_their_bound_nothing_is_published(tmp_path, observed, seed):
    with started(tmp_path) as lab:
        steps = stream(seed, 90)
        lab.send(steps[:30])
        lab.until_published(11)  # the first, and one for each step after the 20 that only fill the buffer
        version, trainer = lab.version(), lab.run.trainer
        sound = jax.tree.map(np.array, (trainer._state.critic, trainer._state.target_critic))

        def grown(params):
            return jax.tree.map(lambda leaf: leaf * 1e3, params)

        trainer._state = trainer._state._replace(
            critic=grown(trainer._state.critic), target_critic=grown(trainer._state.target_critic)
        )
        lab.send(steps[30:60])
        lab.until(lambda: lab.trained() == 60)
        diverged = lab.numbers()
        critic, target = jax.tree.map(jax.numpy.array, sound)
        trainer._state = trainer._state._replace(critic=critic, target_critic=target)
        assert diverged["alarm"] == 1
        # The alarm comes with the metrics of an update, one step after it.
        assert diverged["weights_version"] - version <= 1
        held = lab.version()
        lab.send(steps[60:])
        lab.until(lambda: lab.trained() == 90)
        lab.until(lambda: lab.version() > held)
        assert "alarm" not in lab.numbers()
        told = [event["event"] for event in lab.events() if event["event"].startswith("alarm")]
        assert told == ["alarm", "alarm_ended"]
    observed(f"{diverged['weights_version'] - version:.0f} of 30 versions published while diverged; again afterwards")
