import pytest
from hypothesis import given
from hypothesis import strategies as st

from serl_core.clock import ManualClock, Rate


@given(st.lists(st.floats(0.0, 0.099), min_size=1, max_size=50))
def test_ticks_keep_to_the_schedule_whatever_the_work_between_them_takes(work_s):
    """Fault 26 of earlier systems: the period left out the observation and the policy, so 10 Hz was never 10 Hz."""
    clock = ManualClock(100.0)
    rate = Rate(10.0, clock, clock.sleep)
    rate.restart()
    for k, duration_s in enumerate(work_s, start=1):
        clock.advance(duration_s)
        rate.wait()
        assert clock() == pytest.approx(100.0 + 0.1 * k, abs=1e-9)
    assert rate.late == 0


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=50))
def test_a_late_tick_is_skipped_and_counted_and_the_schedule_stays(work_s):
    clock = ManualClock()
    rate = Rate(10.0, clock, clock.sleep)
    rate.restart()
    late = 0
    for duration_s in work_s:
        last_s = clock()
        clock.advance(duration_s)
        late += clock() > last_s + 0.1 + 1e-9
        rate.wait()
        ticks = clock() / 0.1
        assert ticks == pytest.approx(round(ticks), abs=1e-6)
        assert clock() > last_s
    assert rate.late == pytest.approx(late, abs=1)  # a tick met to the bit may be rounded either way


def test_how_late_each_tick_was_is_kept():
    clock = ManualClock()
    rate = Rate(10.0, clock, lambda duration_s: clock.advance(duration_s + 0.002))
    rate.restart()
    for work_s in (0.03, 0.05, 0.13):  # the last one misses the tick at 0.3, and makes do with that at 0.4
        clock.advance(work_s)
        rate.wait()
    assert list(rate.late_s) == pytest.approx([0.002, 0.002, 0.032, 0.002])


def test_a_tick_that_comes_early_is_not_late():
    clock = ManualClock()
    rate = Rate(10.0, clock, lambda duration_s: clock.advance(duration_s - 0.001))
    rate.wait()
    assert list(rate.late_s) == [0.0]


def test_no_burst_of_commands_follows_a_pause():
    clock = ManualClock()
    rate = Rate(10.0, clock, clock.sleep)
    rate.restart()
    clock.advance(5.03)
    assert rate.remaining_s() == pytest.approx(0.07)
    clock.advance(0.07)
    assert rate.remaining_s() == pytest.approx(0.1)
    assert rate.late == 1


def test_the_first_tick_is_one_period_after_the_first_call():
    assert Rate(20.0, ManualClock()).remaining_s() == pytest.approx(0.05)


def test_a_manual_clock_does_not_go_back():
    with pytest.raises(ValueError, match=r"-1\.0"):
        ManualClock().advance(-1.0)
