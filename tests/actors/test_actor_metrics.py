import numpy as np

from actors.actor_metrics import ActorMetrics, ActorNumbers
from actors.cameras.interface import Frame
from serl_core.clock import ManualClock
from serl_core.metrics_text import Kind

COUNTS = {"made": 9, "acknowledged": 4, "spooled": 3, "quarantined": 1, "dropped": 1, "sent": 6}


def named(samples):
    return {sample.name: sample.value for sample in samples}


def test_the_counters_have_the_names_of_the_fault_table_and_add_up():
    clock = ManualClock(100.0)
    metrics = ActorMetrics(clock)
    metrics.numbers = ActorNumbers(COUNTS, weights_version=7, adopted_s=98.0, refused_weights=2, late_ticks=5)
    values = named(metrics.samples())
    parts = [values[f"transitions_{name}"] for name in ("acked", "spooled", "quarantined", "dropped")]
    assert values["transitions_made"] == sum(parts) == 9
    assert (values["weights_version"], values["weights_age_s"], values["nonfinite_weights"]) == (7, 2.0, 2)


def test_what_could_not_be_believed_and_how_often_the_robot_was_away_are_counters():
    alarms = {"steps_of_two_moments": 3, "judgements_not_finite": 2, "robot_absences": 1}
    metrics = ActorMetrics(ManualClock())
    metrics.numbers = ActorNumbers(COUNTS, alarms=alarms)
    samples = [sample for sample in metrics.samples() if sample.name in alarms]
    assert named(samples) == alarms
    assert {sample.kind for sample in samples} == {Kind.COUNTER}


def test_ages_are_those_of_the_moment():
    clock = ManualClock(100.0)
    picture = Frame(np.zeros((1, 1, 3), np.uint8), captured_s=99.9)
    metrics = ActorMetrics(clock, frames=lambda: {"wrist": picture}, teleop_age_s=lambda: 0.25)
    clock.advance(0.1)
    ages = {sample.name: sample for sample in metrics.samples() if sample.name.endswith("_age_ms")}
    assert round(ages["frame_age_ms"].value) == 200
    assert ages["frame_age_ms"].labels == {"cam": "wrist"}
    assert ages["teleop_age_ms"].value == 250


def test_before_the_first_weights_there_is_no_age():
    assert "weights_age_s" not in named(ActorMetrics(ManualClock()).samples())
