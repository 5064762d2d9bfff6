import json

import numpy as np
import pytest

from learners.metrics import EpisodeTracker
from serl_core.types import EndReason, Observation, Provenance, Transition

BLANK = Observation(proprio=np.zeros(2, np.float32))


def episode(number, end, steps=4, interventions=0, session="s"):
    for i in range(steps):
        reason = end if i == steps - 1 else EndReason.RUNNING
        yield Transition(
            BLANK,
            np.zeros(1, np.float32),
            float(reason is EndReason.SUCCESS),
            1.0,
            BLANK,
            i < interventions,
            reason,
            Provenance(session, number * 100 + i, number, 1, 0.0),
        )


def feed(tracker, transitions):
    records = [tracker.add(transition, i) for i, transition in enumerate(transitions, start=1)]
    return [record for record in records if record is not None]


def test_an_episode_is_told_when_it_ends():
    (record,) = feed(EpisodeTracker(control_hz=10.0), episode(3, EndReason.SUCCESS, steps=8, interventions=2))
    assert record["episode"] == 3
    assert record["session"] == "s"
    assert record["env_steps"] == 8
    assert record["end"] == "success"
    assert record["is_success"] is True
    assert record["length_steps"] == 8
    assert record["intervention_rate"] == 0.25
    assert record["cycle_time_s_20"] == pytest.approx(0.8)
    json.dumps(record)


def test_a_success_with_help_is_not_the_policy_s_own():
    tracker = EpisodeTracker(control_hz=10.0)
    feed(tracker, episode(0, EndReason.SUCCESS, interventions=1))
    (record,) = feed(tracker, episode(1, EndReason.SUCCESS))
    assert record["success_20"] == 1.0
    assert record["autonomous_success_20"] == 0.5


def test_only_success_is_success():
    ends = [end for end in EndReason if end is not EndReason.RUNNING]
    records = [feed(EpisodeTracker(control_hz=10.0), episode(0, end))[0] for end in ends]
    assert [record["is_success"] for record in records] == [end is EndReason.SUCCESS for end in ends]


def test_running_means_look_back_on_twenty_episodes():
    tracker = EpisodeTracker(control_hz=10.0)
    for number in range(20):
        feed(tracker, episode(number, EndReason.TIME_LIMIT))
    for number in range(20, 25):
        (record,) = feed(tracker, episode(number, EndReason.SUCCESS, steps=6))
    assert record["success_20"] == 0.25
    assert record["cycle_time_s_20"] == pytest.approx(0.6)  # of the successes alone


def test_without_a_success_there_is_no_cycle_time():
    (record,) = feed(EpisodeTracker(control_hz=10.0), episode(0, EndReason.FAILURE))
    assert record["cycle_time_s_20"] is None


def test_sessions_that_interleave_and_episodes_left_open_do_not_mix():
    tracker = EpisodeTracker(control_hz=10.0)
    one, two = list(episode(0, EndReason.SUCCESS, 3)), list(episode(0, EndReason.SUCCESS, 5, session="t"))
    abandoned = list(episode(1, EndReason.SUCCESS, 9))[:4]
    records = feed(tracker, [two[0], *one, *two[1:], *abandoned, *episode(2, EndReason.SUCCESS, 2)])
    assert [record["length_steps"] for record in records] == [3, 5, 2]
