import dataclasses
import itertools

import jax
import numpy as np
import pytest

from learners.checkpoints import Checkpoints
from learners.trainer import Trainer
from serl_core.data import episode_log
from serl_core.data.episode_file import load_episode, load_steps
from serl_core.errors import ConfigError, LearningError
from tests.learners.toy import PERCEPTION, SAC, Run
from tests.serl_core.agents.toy import TIME_LIMIT, config, stream


def everything(run):
    """All that a run has learned, as bytes."""
    weights = run.trainer.policy_weights().params, run.trainer.final_policy().params
    run.trainer.save()
    checkpoint = run.checkpoints.newest()
    facts = {name: checkpoint.facts[name] for name in ("env_steps", "trained_env_steps", "rng", "inserted", "updates")}
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((weights, checkpoint.arrays))], facts


def finished(folder, transitions, **options):
    run = Run(folder, **options)
    run.take(transitions)
    result = everything(run)
    run.stop()
    return result


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tmp_path):
    steps = stream(0, 60)
    first = finished(tmp_path / "a", steps)
    assert finished(tmp_path / "b", steps) == first
    assert finished(tmp_path / "c", steps, seed=1) != first


@pytest.mark.parametrize("logged", [100, 137])
def test_200_steps_are_100_a_crash_a_resume_and_the_rest_to_the_bit(tmp_path, logged):
    """The checkpoint is of step 100; the log may have gone on before the crash."""
    steps = stream(0, 200)
    run = Run(tmp_path / "crashed")
    run.take(steps[:100])
    run.trainer.save()
    run.take(steps[100:logged])
    run.stop()
    run = Run(tmp_path / "crashed")
    tail = run.trainer.resume()
    assert len(tail) == logged - 100
    run.learn(tail)
    run.take(steps[logged:])
    resumed = everything(run)
    run.stop()
    assert resumed == finished(tmp_path / "whole", steps)


def test_a_resume_reads_no_more_than_the_buffer_holds_and_goes_on_to_the_bit(tmp_path, monkeypatch):
    """It read the whole log: two minutes for 2 million transitions, of which the buffer kept 200."""
    steps = stream(0, 400)
    run = Run(tmp_path / "crashed", online_capacity=40)
    run.take(steps[:300])
    run.trainer.save()
    run.take(steps[300:337])
    run.stop()
    run = Run(tmp_path / "crashed", online_capacity=40)
    read = []
    monkeypatch.setattr(episode_log, "load_steps", lambda path: read.append(path) or load_steps(path))
    tail = run.trainer.resume(told={(step.provenance.session, step.provenance.episode) for step in steps})
    assert [step.provenance.sequence for step in tail] == list(range(300, 337))
    assert sum(len(load_steps(path)) for path in read) < 40 + 37 + 3 * TIME_LIMIT
    run.learn(tail)
    run.take(steps[337:])
    resumed = everything(run)
    run.stop()
    assert resumed == finished(tmp_path / "whole", steps, online_capacity=40)


def test_resume_without_a_checkpoint_learns_the_log_once(tmp_path):
    steps = stream(0, 50)
    run = Run(tmp_path / "crashed")
    run.log.append(steps)
    run.stop()
    run = Run(tmp_path / "crashed")
    run.learn(run.trainer.resume())
    assert everything(run) == finished(tmp_path / "whole", steps)
    run.stop()


def test_a_corrupt_newest_checkpoint_costs_time_and_nothing_else(tmp_path):
    steps = stream(0, 60)
    run = Run(tmp_path / "crashed")
    for part in (steps[:30], steps[30:50]):
        run.take(part)
        run.trainer.save()
    run.take(steps[50:])
    run.stop()
    (tmp_path / "crashed" / "checkpoints" / "000002" / "facts.json").write_text("{}")
    run = Run(tmp_path / "crashed")
    tail = run.trainer.resume()
    assert len(tail) == 30
    run.learn(tail)
    assert everything(run) == finished(tmp_path / "whole", steps)
    run.stop()


def test_a_checkpoint_is_never_ahead_of_the_log_on_the_disk(tmp_path):
    """A checkpoint was written while the log waited for its sync: after a power cut, resume refused the run."""
    run = Run(tmp_path)
    run.take(stream(0, 29))
    assert run.log.synced_sequences() != run.log.last_sequences()
    run.trainer.save()
    assert run.log.synced_sequences() == run.log.last_sequences()
    run.stop()


def test_versions_after_a_resume_are_above_all_that_were_published(tmp_path):
    run = Run(tmp_path)
    run.take(stream(0, 30))
    run.trainer.save()
    published = 0
    for transition in stream(0, 40)[30:]:
        run.take([transition])
        published = run.trainer.policy_weights().version
    run.stop()
    run = Run(tmp_path)
    run.trainer.resume()
    assert run.trainer.policy_weights().version > published
    run.stop()


def test_resume_with_another_config_is_refused_by_name(tmp_path):
    run = Run(tmp_path)
    run.trainer.save()
    run.stop()
    run = Run(tmp_path, sac=dataclasses.replace(SAC, critics=3))
    with pytest.raises(ConfigError, match=r"config\.sac\.critics: the run was started with 2, got 3"):
        run.trainer.resume()
    run.stop()


@pytest.mark.parametrize("moved", [0, 1])
def test_an_episode_moved_out_of_the_log_costs_that_episode_alone(tmp_path, caplog, moved):
    """Resume counted transitions: without a corrupt episode, as its error advises, it refused, or took later
    transitions for trained ones."""
    steps = stream(0, 60)
    run = Run(tmp_path)
    run.take(steps[:50])
    run.trainer.save()
    run.take(steps[50:])
    run.stop()
    path = sorted((tmp_path / "experience" / "episodes").iterdir())[moved]
    lost = len(load_episode(path))
    path.rename(tmp_path / path.name)
    run = Run(tmp_path)
    tail = run.trainer.resume()
    assert [t.provenance.sequence for t in tail] == list(range(50, 60))
    assert len(run.trainer.online) == 50 - lost
    assert run.trainer.pacing.env_steps == run.trainer.pacing.trained_env_steps == 50
    assert f"{lost} of the 50 transitions before the checkpoint are no longer in the log" in caplog.text
    run.learn(tail)
    run.trainer.save()
    run.stop()
    run = Run(tmp_path)
    assert run.trainer.resume() == []
    assert run.trainer.pacing.env_steps == 60
    run.stop()


def test_versions_without_a_checkpoint_are_above_those_in_the_log(tmp_path):
    """They began at 1 again, and actors waited for a version above the one they had."""
    run = Run(tmp_path)
    steps = [step._replace(provenance=step.provenance._replace(policy_version=500)) for step in stream(0, 5)]
    run.log.append(steps)
    run.stop()
    run = Run(tmp_path)
    run.trainer.resume()
    assert run.trainer.policy_weights().version > 500
    run.stop()


def test_updates_begin_at_training_starts_and_follow_each_step(tmp_path):
    run = Run(tmp_path, training_starts=20)
    for step, transition in enumerate(stream(0, 40), start=1):
        run.log.append([transition])
        run.trainer.insert([transition])
        updates = 0
        while run.trainer.can_update():
            run.trainer.update()
            updates += 1
        assert updates == (step > 20)
    assert run.trainer.updates == 20 * SAC.utd_ratio
    run.stop()


def test_demonstrations_and_interventions_make_the_demo_half(tmp_path):
    run = Run(tmp_path)
    steps = stream(0, 20)
    run.take(steps)
    assert len(run.trainer.demonstrations) == 30
    assert len(run.trainer.online.interventions) == sum(step.is_intervention for step in steps)
    assert len(run.trainer.online) == 20
    run.stop()


def test_warming_up_learns_nothing(tmp_path):
    steps = stream(0, 40)
    run = Run(tmp_path / "warm")
    run.trainer.warm_up()
    run.take(steps)
    assert everything(run) == finished(tmp_path / "cold", steps)
    run.stop()


def test_training_stops_by_name_after_ten_updates_that_are_not_finite(tmp_path):
    run = Run(tmp_path)
    run.take(stream(0, 30))
    before = run.trainer.policy_weights().params
    extreme = [step._replace(reward=1e30) for step in stream(1, 40, "extreme")]
    run.log.append(extreme)
    run.trainer.insert(extreme)  # owes 40 updates
    with pytest.raises(LearningError, match=r"not finite for 1\d updates in a row"):
        run.pay()
    after = run.trainer.policy_weights().params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert jax.tree.structure(after) == jax.tree.structure(before)
    run.stop()


def test_weights_that_are_not_finite_are_neither_published_nor_saved(tmp_path):
    run = Run(tmp_path)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, run.trainer.arrays().policy)
    run.trainer._state = run.trainer._state._replace(policy=broken, averaged_policy=broken)
    for publish in (run.trainer.policy_weights, run.trainer.final_policy, run.trainer.save):
        with pytest.raises(LearningError, match="not finite"):
            publish()
    assert not list(tmp_path.glob("checkpoints/*"))
    run.stop()


def test_published_weights_do_not_change_with_later_updates(tmp_path):
    run = Run(tmp_path)
    run.take(stream(0, 25))
    weights = run.trainer.policy_weights()
    before = jax.tree.map(np.copy, weights.params)
    run.take(stream(1, 10, "later"))
    jax.tree.map(np.testing.assert_array_equal, weights.params, before)
    run.stop()


def test_a_run_without_demonstrations_learns_from_what_comes(tmp_path):
    whole = Run(tmp_path)
    trainer = Trainer(
        PERCEPTION,
        dataclasses.replace(whole.trainer.config, sac=config(batch_size=8, utd_ratio=1)),
        [],
        whole.log,
        Checkpoints(tmp_path / "checkpoints"),
    )
    trainer.insert(itertools.islice(stream(0, 30), 25))
    while trainer.can_update():
        metrics = trainer.update()
    assert metrics["skipped"] == 0
    whole.stop()
