import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from serl_core.statistics import Z_95, Rate, wilson_interval


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


def test_a_rate_says_its_count_its_value_and_its_interval():
    rate = Rate.of(48, 50)
    assert (rate.rate, (rate.low_95, rate.high_95)) == (0.96, wilson_interval(48, 50))
    assert str(rate) == "48/50 = 96.0% (95 % interval 86.5% to 98.9%)"


def test_a_rate_of_nothing_has_no_value():
    assert Rate.of(0, 0) == Rate(0, 0, None, None, None)
    assert str(Rate.of(0, 0)) == "none to count"
