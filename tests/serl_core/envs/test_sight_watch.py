import math

import pytest

from serl_core.envs.sight_watch import SightWatch
from serl_core.envs.vision import Sight


def after(steps, apart, watch=None):
    """Return a watch after an episode of so many steps, the first of which were of two moments."""
    watch = watch or SightWatch()
    watch.begin_episode()
    for step in range(steps):
        watch.is_apart(Sight({}, captured_s=10.0), 10.0 + (0.11 if step < apart else 0.09))
    return watch


def test_more_than_100_ms_between_picture_and_state_is_flagged_either_way():
    watch = SightWatch()
    assert not watch.is_apart(Sight({}, captured_s=10.0), 10.09)
    assert watch.is_apart(Sight({}, captured_s=10.0), 10.11)
    assert watch.is_apart(Sight({}, captured_s=10.11), 10.0)
    assert not watch.is_apart(Sight({}), 10.0)
    assert watch.apart == 2


@pytest.mark.parametrize(
    ("steps", "apart", "is_fault"), [(1, 1, False), (20, 1, False), (20, 2, True), (100, 5, False), (100, 6, True)]
)
def test_more_than_5_percent_of_an_episodes_steps_are_a_fault(steps, apart, is_fault):
    assert after(steps, apart).is_fault is is_fault


def test_each_episode_is_judged_by_itself():
    watch = after(20, 5)
    assert watch.is_fault
    assert not after(20, 1, watch).is_fault
    assert watch.apart == 6


def test_a_judgement_that_is_no_number_counts_as_0_and_is_told_once_an_episode(caplog):
    watch = SightWatch()
    assert watch.probability(Sight({}, success_probability=0.7)) == 0.7
    assert watch.probability(Sight({})) is None
    for _ in range(3):
        assert watch.probability(Sight({}, success_probability=math.nan)) == 0.0
    assert watch.not_finite == 3
    assert len(caplog.records) == 1
    watch.begin_episode()
    watch.probability(Sight({}, success_probability=math.inf))
    assert len(caplog.records) == 2
