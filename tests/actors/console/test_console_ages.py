"""The age of a browser's command, from two clocks that have nothing in common."""

import pytest

from actors.console.ages import CommandAge

OFFSET_S = 5000.0  # between the page's clock and the console's


def test_a_command_that_travelled_as_fast_as_any_is_new():
    age = CommandAge()
    ages = [age.age_s(OFFSET_S + i * 0.03 + 0.001, i * 0.03) for i in range(50)]
    assert ages == pytest.approx([0.0] * 50)


def test_a_command_that_was_held_up_is_as_old_as_the_delay():
    age = CommandAge()
    age.age_s(OFFSET_S, 0.0)
    assert age.age_s(OFFSET_S + 1.35, 1.0) == pytest.approx(0.35)


def test_what_a_frozen_tab_sends_in_a_burst_has_its_true_age():
    age = CommandAge()
    age.age_s(OFFSET_S, 0.0)
    ages = [age.age_s(OFFSET_S + 2.0, sent_s) for sent_s in (0.5, 1.0, 1.9)]
    assert ages == pytest.approx([1.5, 1.0, 0.1])


def test_half_of_the_round_trip_that_the_page_measured_is_added():
    age = CommandAge()
    age.set_round_trip(0.18)
    assert age.age_s(OFFSET_S, 0.0) == pytest.approx(0.09)


def test_clocks_that_drift_apart_make_nothing_old():
    age = CommandAge()
    ages = [age.age_s(OFFSET_S + 1.0001 * i * 0.1, i * 0.1) for i in range(2000)]
    assert max(ages) < 0.002


def test_a_clock_that_jumps_makes_commands_old_and_is_forgiven_after_the_window():
    age = CommandAge(window_s=10.0)
    age.age_s(OFFSET_S, 0.0)
    assert age.age_s(OFFSET_S + 100.0, 1.0) == pytest.approx(0.0)  # nothing was heard for longer than the window
    assert age.age_s(OFFSET_S + 101.0, 1.5) == pytest.approx(0.5)
    assert age.age_s(OFFSET_S + 112.0, 12.5) == pytest.approx(0.0)


def test_memory_is_bounded_by_the_window():
    age = CommandAge(window_s=1.0)
    for i in range(10_000):
        age.age_s(OFFSET_S + i * 0.02 + i * 1e-6, i * 0.02)  # ever slower: the worst case for the minima
    assert len(age._offsets) < 60
