"""The latch of the software stop."""

from robot_servers.kernel_parts.stop_latch import StopLatch


def test_it_is_set_until_the_stop_that_was_seen_is_cleared():
    latch = StopLatch()
    assert (latch.is_set, latch.present) == (False, None)
    latch.set("stop")
    assert (latch.is_set, latch.present.cause) == (True, "stop")
    latch.clear(latch.present)
    assert (latch.is_set, latch.present) == (False, None)


def test_a_stop_that_comes_while_another_is_cleared_stays_latched_also_with_the_same_words():
    latch = StopLatch()
    latch.set("stop")
    seen = latch.present
    latch.set("stop")
    latch.clear(seen)
    assert latch.is_set
    assert latch.present is not seen
