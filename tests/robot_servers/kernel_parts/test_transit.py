"""Which commands were held up, told without one clock for two computers."""

from robot_servers.kernel_parts.transit import WINDOW_S, Transit

OFFSET_S = -5000.0


def test_the_quickest_way_is_no_delay_and_any_other_is_late_by_the_difference():
    transit = Transit()
    assert transit.delay_s(OFFSET_S, 0.02) == 0.0
    transit.note(OFFSET_S, 0.02)
    assert transit.delay_s(OFFSET_S + 1.0, 1.0) == 0.0
    assert abs(transit.delay_s(OFFSET_S + 1.0, 1.27) - 0.25) < 1e-9


def test_clocks_that_drift_apart_by_a_tenth_of_a_millisecond_a_second_look_late_by_few():
    transit, late_s = Transit(), 0.0
    for second in range(36_000):
        late_s = max(late_s, transit.delay_s(OFFSET_S + second * (1.0 - 1e-4), float(second)))
        transit.note(OFFSET_S + second * (1.0 - 1e-4), float(second))
    assert late_s < 0.01


def test_a_way_that_became_slow_for_good_is_the_usual_one_after_two_windows():
    transit = Transit()
    transit.note(OFFSET_S, 0.0)
    assert transit.delay_s(OFFSET_S + 1.0, 1.5) == 0.5
    assert transit.delay_s(OFFSET_S + 2.0 * WINDOW_S, 2.0 * WINDOW_S + 0.5) == 0.0
