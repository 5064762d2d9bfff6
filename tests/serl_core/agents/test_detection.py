import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serl_core.agents.detection import away_from_both, choose_threshold, reliability, score, score_sustained, sustained
from serl_core.errors import DataError
from serl_core.statistics import Rate


def floats(*values):
    return np.array(values, np.float64)


def bools(text):
    return np.array([letter == "#" for letter in text])


def test_a_probability_is_sustained_at_the_lowest_of_the_last_frames():
    probability, run = floats(0.9, 0.8, 0.95, 0.3, 0.99), np.zeros(5, np.int64)
    np.testing.assert_array_equal(sustained(probability, run, 1), probability)
    np.testing.assert_array_equal(sustained(probability, run, 2), [0.0, 0.8, 0.8, 0.3, 0.3])
    np.testing.assert_array_equal(sustained(probability, run, 3), [0.0, 0.0, 0.8, 0.3, 0.3])
    np.testing.assert_array_equal(sustained(probability, run, 9), np.zeros(5))


def test_frames_before_a_gap_or_of_another_episode_do_not_count_as_before():
    lowest = sustained(floats(0.9, 0.9, 0.9, 0.9, 0.9), np.array([0, 0, 1, 1, 1]), 3)
    np.testing.assert_array_equal(lowest, [0.0, 0.0, 0.0, 0.0, 0.9])


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    st.lists(st.integers(0, 2), min_size=30, max_size=30),
    st.integers(1, 4),
    st.floats(0.01, 1.0),
)
def test_the_rule_is_that_of_an_environment_which_counts_votes(probabilities, steps, frames, threshold):
    """The environment counts the frames above the threshold, and begins anew at each frame below and each episode."""
    run = np.cumsum(steps[: len(probabilities)])
    fires, votes = [], 0
    for i, probability in enumerate(probabilities):
        if i and run[i] != run[i - 1]:
            votes = 0
        votes = votes + 1 if probability >= threshold else 0
        fires.append(votes >= frames)
    np.testing.assert_array_equal(sustained(floats(*probabilities), run, frames) >= threshold, fires)


def test_the_threshold_lets_through_no_more_negatives_than_allowed():
    negatives = floats(*np.linspace(0.0, 0.99, 100))
    for rate, most in ((0.01, 1), (0.05, 5), (0.004, 0)):
        threshold = choose_threshold(negatives, rate, least=0.1)
        assert (negatives >= threshold).sum() == most
        assert (negatives >= np.nextafter(np.nextafter(threshold, 0.0), 0.0)).sum() > most  # the smallest such one


def test_equal_negatives_are_kept_out_together():
    assert choose_threshold(floats(0.9, 0.9, 0.9, 0.1), 0.5, least=0.1) > 0.9


def test_the_threshold_is_never_below_the_least():
    assert choose_threshold(floats(0.01, 0.02), 0.01, least=0.3) == 0.3
    assert choose_threshold(np.zeros(0), 0.01, least=0.3) == 0.3
    assert choose_threshold(floats(0.9), 0.99, least=0.3) > 0.9  # one of one is more than 99 %


def test_negatives_that_the_classifier_is_sure_of_allow_no_threshold():
    with pytest.raises(DataError, match=r"at 1\.00%: 1 of 2 negative .* 0\.99999 or more\. Review their labels"):
        choose_threshold(floats(0.99999, 0.1), 0.01, least=0.3)


def test_decisions_are_counted_by_kind():
    scores = score(bools("##.#."), bools("#.#.."))
    assert scores.accuracy == Rate.of(2, 5)
    assert scores.false_positive == Rate.of(2, 3)
    assert scores.false_negative == Rate.of(1, 2)
    assert scores.confusion == {"true_positive": 1, "false_negative": 1, "false_positive": 2, "true_negative": 1}


def test_the_delay_of_the_rule_is_no_error_of_the_classifier():
    label, run = bools("..###..#"), np.zeros(8, np.int64)
    scores = score_sustained(label.astype(np.float64), label, run, frames=2, threshold=0.5)
    assert scores.false_negative == Rate.of(0, 2)  # the first frame of each success cannot be told yet
    assert scores.false_positive == Rate.of(0, 4)


def test_a_miss_within_a_success_is_counted_for_as_long_as_the_rule_waits():
    label, run = bools("#####"), np.zeros(5, np.int64)
    scores = score_sustained(floats(1, 1, 0, 1, 1), label, run, frames=2, threshold=0.5)
    assert scores.false_negative == Rate.of(2, 4)


def test_reliability_compares_probabilities_with_what_was_true():
    bins = reliability(floats(0.04, 0.06, 0.95, 1.0), bools(".#.#"))
    assert [entry.mean_probability for entry in bins] == pytest.approx([0.05, 0.975])
    assert [entry.positive for entry in bins] == [Rate.of(1, 2), Rate.of(1, 2)]


def test_the_threshold_keeps_away_from_both_sides():
    positives = np.linspace(0.9, 0.999, 100)
    threshold = away_from_both(0.3, positives)
    odds = [p / (1 - p) for p in (0.3, threshold, positives[5])]
    assert odds[1] ** 2 == pytest.approx(odds[0] * odds[2], rel=1e-6)


def test_without_a_gap_the_threshold_stays_where_the_negatives_put_it():
    assert away_from_both(0.6, np.linspace(0.2, 0.9, 50)) == pytest.approx(0.6)
    assert away_from_both(0.6, np.zeros(0)) == 0.6
    assert 0.6 < away_from_both(0.6, np.ones(5)) < 1.0
