import pytest

from learners.alarms import REWARD, VALUE, Alarms
from tests.serl_core.agents.toy import stream


@pytest.fixture
def alarms():
    return Alarms((0.0, 1.0), gamma=0.9)  # values of 10 at most, and an alarm above 100


def test_all_is_well_within_the_range_and_the_bound(alarms):
    alarms.see_rewards(stream(0, 30))
    alarms.see_values({"q_mean": 99.0, "target_q_mean": -99.0})
    alarms.see_values({})
    assert not alarms.raised


@pytest.mark.parametrize("reward", [1.001, -0.001, float("nan"), float("inf")])
def test_a_reward_out_of_range_is_an_alarm_that_stays(alarms, reward):
    alarms.see_rewards([step._replace(reward=reward) for step in stream(0, 2)])
    alarms.see_rewards(stream(0, 30))
    assert set(alarms.raised) == {REWARD}
    assert "outside 0 to 1" in alarms.raised[REWARD]
    assert alarms.rewards_out_of_range == 2


@pytest.mark.parametrize("values", [{"q_mean": 101.0}, {"target_q_mean": -101.0}, {"q_mean": float("nan")}])
def test_values_that_ran_away_are_an_alarm_until_they_are_back(alarms, values):
    alarms.see_values(values)
    assert set(alarms.raised) == {VALUE}
    alarms.see_values({"q_mean": 5.0, "target_q_mean": 5.0})
    assert not alarms.raised
