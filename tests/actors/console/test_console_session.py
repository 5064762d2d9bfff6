"""The limits of a browser's conversation."""

import time
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed

from actors.console.browser_messages import MAX_TEXT_BYTES
from actors.console.browsers import MAX_BROWSERS
from actors.console.session import HELLO_TIMEOUT_S, MAX_MISTAKES
from tests.actors.console.rig import console, wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with console(tmp_path_factory.mktemp("console")) as served:
        yield served


def test_the_first_message_tells_what_there_is(served):
    with served.page("anna") as page:
        hello = page.hear("hello")
    assert hello["api"] == "1.0"
    assert hello["operator"] == "anna"
    assert hello["run"] == "run"
    assert hello["task"]["name"] == "ram_insertion"
    assert hello["task"]["target_pose"] == [0.5, 0.0, 0.058, 1.0, 0.0, 0.0, 0.0]
    assert hello["box"] == {"low_m": [0.44, -0.06, 0.045], "high_m": [0.56, 0.06, 0.14]}
    assert hello["limits"] == {"force_n": 20.0, "torque_nm": 25.0, "is_default": True}
    assert "stop" in hello["roles"]


def test_a_browser_that_says_nothing_is_closed(served):
    begin_s = time.monotonic()
    with served.page(token=None) as page:
        assert page.closing_code() == 4401
    assert time.monotonic() - begin_s >= HELLO_TIMEOUT_S


def test_a_ping_is_answered(served):
    with served.page() as page:
        page.say("ping", sent_ms=123.5, rtt_ms=3.0)
        assert page.hear("pong")["sent_ms"] == 123.5


def test_a_message_that_cannot_be_read_is_told_and_many_end_the_connection(served):
    with served.page() as page:
        page.socket.send("{")
        assert "cannot read" in page.hear("notice")["text"]
        page.say("ping", sent_ms=1.0)
        page.hear("pong")
        for _ in range(MAX_MISTAKES):
            page.say("jump")
        assert page.closing_code() == 4400


@pytest.mark.parametrize("packet", [b"\x00\x01", "", "[]", "null", '{"kind": 3}', '{"kind": "state"}', "[" * 5000])
def test_nonsense_does_not_end_the_connection(served, packet):
    with served.page() as page:
        page.hear("hello")
        page.socket.send(packet)
        page.hear("notice")
        page.say("ping", sent_ms=1.0)
        page.hear("pong")


def test_a_message_that_is_too_large_ends_the_connection(served):
    with served.page() as page:
        page.hear("hello")
        page.socket.send("x" * (MAX_TEXT_BYTES + 1))
        assert page.closing_code() == 1009


def test_more_browsers_than_allowed_are_told_so_and_a_place_becomes_free(served):
    with ExitStack() as pages:
        for number in range(MAX_BROWSERS):
            pages.enter_context(served.page(f"operator {number}")).hear("hello")
        with served.page() as late:
            assert late.closing_code() == 4429

    def is_let_in():
        with served.page() as page, suppress(ConnectionClosed):
            return page.hear("hello")

    wait_until(is_let_in)


def test_a_browser_that_reads_nothing_holds_up_no_other(served):
    """The next one gets its state at once, and the slow one gets the newest when it reads again."""
    with served.page("slow", max_queue=1) as slow, served.page("quick") as quick:
        slow.hear("hello")
        stamps = [quick.hear("state")["time"] for _ in range(10)]
        assert stamps == sorted(stamps)
        wait_until(lambda: quick.hear("state")["time"] - stamps[0] > 1.0)
        slow.hear("state", lambda state: state["time"] > stamps[-1])


def test_a_setting_that_there_is_not_is_refused(served):
    with served.page() as page:
        page.say("set", name="speed_limit", value=9.0)
        assert "no setting 'speed_limit'" in page.hear("notice")["text"]
