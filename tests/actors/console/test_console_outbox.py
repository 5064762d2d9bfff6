"""What a slow browser gets."""

from actors.console.browsers import Browsers, picture_packet
from actors.console.outbox import MAX_EVENTS, Outbox
from tests.actors.console.rig import run_async


def taken(outbox, count):
    async def take():
        return [await outbox.take() for _ in range(count)]

    return run_async(take())


def test_a_slow_browser_gets_the_newest_reading_only():
    outbox = Outbox()
    for number in range(100):
        outbox.put_newest("state", f"state {number}")
        outbox.put_newest("picture wrist", bytes([number]))
    assert taken(outbox, 2) == ["state 99", bytes([99])]


def test_events_come_all_in_order_and_before_readings():
    outbox = Outbox()
    outbox.put_newest("state", "state")
    for number in range(5):
        outbox.put_event(str(number))
    assert taken(outbox, 6) == ["0", "1", "2", "3", "4", "state"]


def test_a_reading_that_comes_often_does_not_hold_up_the_others():
    outbox = Outbox()
    outbox.put_newest("state", "old")
    outbox.put_newest("step", "step")
    outbox.put_newest("state", "new")
    assert taken(outbox, 2) == ["step", "new"]


def test_no_reading_comes_after_the_event_that_takes_its_place():
    outbox = Outbox()
    outbox.put_newest("step", "running")
    outbox.put_newest("state", "state")
    outbox.put_event("the end", instead_of="step")
    assert taken(outbox, 2) == ["the end", "state"]


def test_events_for_a_browser_that_takes_none_are_bounded_and_counted():
    outbox = Outbox()
    for number in range(MAX_EVENTS + 10):
        outbox.put_event(str(number))
    assert outbox.dropped == 10
    assert taken(outbox, 1) == ["10"]


def test_two_browsers_never_have_one_operators_name():
    browsers = Browsers()
    names = [browsers.add("anna").operator for _ in range(3)]
    assert names == ["anna", "anna 2", "anna 3"]


def test_the_feeds_are_told_when_nobody_looks():
    browsers = Browsers()
    one, two = browsers.add("a"), browsers.add("b")
    assert browsers.is_watched.is_set()
    browsers.remove(one)
    assert browsers.is_watched.is_set()
    browsers.remove(two)
    assert not browsers.is_watched.is_set()


def test_the_same_notice_is_not_repeated_at_once():
    browser = Browsers().add("a")
    for _ in range(50):
        browser.notice("error", "nobody takes the commands")
    browser.notice("error", "something else")
    first, second = taken(browser.outbox, 2)
    assert "nobody" in first
    assert "something" in second


def test_a_picture_begins_with_its_cameras_name():
    packet = picture_packet("wrist", b"\xff\xd8")
    assert packet == b"\x05wrist\xff\xd8"
