import logging
from pathlib import Path

import msgspec
import pytest

from serl_core.agents.classifier_gate import MEASURE, check_quality
from serl_core.errors import ConfigError
from serl_core.statistics import Rate

PATH = Path("classifier.safetensors")


def metrics(count, total):
    return {MEASURE: msgspec.to_builtins(Rate.of(count, total)), "threshold": 0.7}


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 100), (2, 250)])
def test_at_most_one_failure_in_a_hundred_may_pass_for_a_success(count, total, caplog):
    caplog.set_level(logging.INFO)
    check_quality(PATH, metrics(count, total))
    assert f"false successes in {count} of {total} held-back failures" in caplog.text


def test_the_upper_bound_is_told_and_does_not_decide(caplog):
    """Nobody can hold back enough failures to prove 1 %, and four of them prove little."""
    caplog.set_level(logging.INFO)
    check_quality(PATH, metrics(0, 4))
    assert "0 of 4 held-back failures = 0.0% (upper 95 % bound 49.0%)" in caplog.text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (metrics(1, 99), r"1 of 99 held-back failures = 1.0% \(upper 95 % bound 5.5%\), at most 1% is allowed"),
        (metrics(2, 12), r"2 of 12 held-back failures = 16.7% \(upper 95 % bound 44.8%\)"),
        (metrics(0, 0), "no episode without a success was held back to measure it on"),
        ({}, "no episode without a success was held back"),
        ({MEASURE: "none"}, "no episode without a success was held back"),
    ],
)
def test_one_that_rewards_more_failures_or_is_not_measured_is_refused_with_figures_and_ways_out(found, words):
    with pytest.raises(ConfigError, match=rf"classifier classifier.safetensors: .*{words}") as raised:
        check_quality(PATH, found)
    assert "serl classifier train" in str(raised.value)
    assert str(raised.value).endswith("--allow-poor-classifier")


def test_who_wants_it_all_the_same_is_warned(caplog):
    check_quality(PATH, metrics(2, 12), allow_poor=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "2 of 12" in caplog.text
