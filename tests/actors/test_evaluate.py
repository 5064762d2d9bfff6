import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from actors.evaluate import Z_95, evaluate, wilson_interval
from examples.ram_insertion import CONFIG
from serl_core.envs.resets import start_grid
from serl_core.errors import ConfigError
from tests.actors.fakes import nothing, open_env, towards_target


def test_an_evaluation_is_the_same_each_time():
    starts = start_grid(CONFIG.reset, 4)
    assert evaluate(open_env(), towards_target, starts) == evaluate(open_env(), towards_target, starts)


def test_each_trial_begins_where_the_grid_says():
    starts = start_grid(CONFIG.reset, 3)
    result = evaluate(open_env(), towards_target, starts)
    np.testing.assert_array_equal([trial.start_pose for trial in result.trials_detail], starts)


def test_a_policy_that_knows_the_way_succeeds_and_its_cycles_are_timed_in_robot_time():
    result = evaluate(open_env(), towards_target, start_grid(CONFIG.reset, 5))
    assert (result.successes, result.success_rate) == (5, 1.0)
    cycles_s = [trial.steps / CONFIG.control_hz for trial in result.trials_detail]
    assert [trial.cycle_s for trial in result.trials_detail] == cycles_s
    assert result.median_cycle_s == np.median(cycles_s)
    assert min(cycles_s) <= result.median_cycle_s <= result.p90_cycle_s <= max(cycles_s)


def test_a_policy_that_does_nothing_fails_and_has_no_cycle_time():
    result = evaluate(open_env(time_limit_steps=3), nothing, start_grid(CONFIG.reset, 2))
    assert (result.successes, result.median_cycle_s, result.p90_cycle_s) == (0, None, None)
    assert [trial.end for trial in result.trials_detail] == ["time_limit", "time_limit"]


def test_the_result_is_written_as_json(tmp_path):
    result = evaluate(open_env(), towards_target, start_grid(CONFIG.reset, 2))
    result.write(tmp_path / "new folder" / "eval.json")
    written = json.loads((tmp_path / "new folder" / "eval.json").read_text())
    assert written["trials"] == 2
    assert written["wilson_low"] == result.wilson_low
    assert [trial["is_success"] for trial in written["trials_detail"]] == [True, True]


def test_no_trials_are_refused():
    with pytest.raises(ConfigError, match="at least 1 trial, got 0"):
        evaluate(open_env(), nothing, [])


@given(st.integers(1, 200), st.data())
def test_the_wilson_interval_holds_the_rates_that_the_score_test_accepts(trials, data):
    successes = data.draw(st.integers(0, trials))
    rate = successes / trials

    def excess(p):
        return abs(rate - p) - Z_95 * np.sqrt(p * (1 - p) / trials)

    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1.0
    if successes > 0:
        assert low == pytest.approx(brentq(excess, 1e-12, rate - 1e-12), abs=1e-6)
    if successes < trials:
        assert high == pytest.approx(brentq(excess, rate + 1e-12, 1 - 1e-12), abs=1e-6)


def test_48_of_50_has_the_interval_of_the_textbook():
    assert wilson_interval(48, 50) == pytest.approx((0.8654, 0.9890), abs=1e-4)
