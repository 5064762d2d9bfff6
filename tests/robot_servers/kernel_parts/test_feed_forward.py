"""When a feed-forward wrench ends."""

import pytest

from robot_servers.kernel_parts.feed_forward import FeedForward
from robot_servers.limits import SafetyLimits

LIMITS = SafetyLimits()
PUSH = (5.0, 0.0, -3.0, 0.0, 0.0, 1.0)


def at(x):
    return (x, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)


@pytest.fixture
def events():
    return []


@pytest.fixture
def feed_forward(events):
    made = FeedForward(LIMITS, lambda what, detail: events.append((what, detail)))
    made.command(PUSH, 10.0, at(0.5))
    return made


def test_it_is_what_was_commanded_until_no_command_comes_for_its_time_out(feed_forward, events):
    assert feed_forward.wrench.tolist() == list(PUSH)
    assert not feed_forward.is_too_fast(10.0 + 0.99 * LIMITS.wrench_timeout_s, at(0.5))
    assert feed_forward.wrench is not None
    assert not feed_forward.is_too_fast(10.0 + 1.01 * LIMITS.wrench_timeout_s, at(0.5))
    assert feed_forward.wrench is None
    assert [what for what, _ in events] == ["watchdog"]


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_an_arm_beyond_the_speed_limit_is_too_fast(feed_forward, events, share):
    speed_m_s = share * LIMITS.speed_m_s
    verdicts = [feed_forward.is_too_fast(10.0 + 0.001 * i, at(0.5 + speed_m_s * 0.001 * i)) for i in range(1, 50)]
    assert set(verdicts) == {share > 1.0}
    assert {what for what, _ in events} == ({"wrench"} if share > 1.0 else set())


def test_noise_of_the_reading_is_no_speed(feed_forward):
    verdicts = [feed_forward.is_too_fast(10.0 + 0.001 * i, at(0.5 + 2e-5 * (i % 2))) for i in range(2, 50)]
    assert not any(verdicts)
