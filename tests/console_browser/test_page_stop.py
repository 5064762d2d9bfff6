"""Stop: on the button and on the space bar, whatever else the page is doing."""

import statistics
import time

import numpy as np
from chromium_page import wait_for
from stub_console import STEP, picture

MUST_REACH_S = 0.1


def test_a_stop_reaches_the_console_within_100_ms_under_load(page, stub):
    """Three cameras and the robot at 10 Hz, requests that hang, and a person who steers."""
    stub.burden_s = 30.0
    page.open(stub.link).wait_connected()
    page.click("#tab-episodes")
    page.click("#tab-compare")
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    packets = [picture(name, image) for name in ("a", "b", "c")]
    page.key_down("KeyW", "w")
    delays_s = []
    for _ in range(7):
        for _ in range(3):
            for packet in packets:
                stub.tell(packet)
            stub.tell(STEP)
            time.sleep(0.1)
        count = len(stub.stops)
        pressed_s = time.monotonic()
        page.press("Space", " ")
        wait_for(lambda count=count: len(stub.stops) > count, "the stop")
        delays_s.append(stub.stops[count] - pressed_s)
    page.key_up("KeyW", "w")
    assert statistics.median(delays_s) < MUST_REACH_S, delays_s


def test_the_space_bar_stops_wherever_the_focus_is_and_presses_nothing_else(page, stub):
    page.open(stub.link).wait_connected()
    for count, focused in enumerate(("label-success", "speed", "frame", "tab-follow", "notices"), start=1):
        page.run("document.getElementById(arguments[0]).focus()", focused)
        page.press("Space", " ")
        wait_for(lambda count=count: len(stub.stops) == count, f"the stop with the focus on {focused}")
    page.wait("#banner", "Stopped: stop by the console")
    assert stub.said("label") == []


def test_the_button_stops_and_the_page_shows_the_cause_and_the_way_back(page, stub):
    page.open(stub.link).wait_connected()
    page.click("#stop")
    page.wait("#banner", "Stopped: stop by the console")
    assert stub.said("stop")  # both ways
    assert len(stub.stops) == 1
    page.click("#way-out")
    wait_for(lambda: stub.said("resume_robot"), "the request to resume")


def test_a_stop_works_while_the_socket_is_down(page, stub):
    page.open(stub.link).wait_connected()
    page.run("window.WebSocket = class { constructor() { throw new Error('none'); } }")
    stub.cut()
    page.wait("#banner", "No connection to the console")
    page.press("Space", " ")
    wait_for(lambda: stub.stops, "the stop")


def test_a_stop_that_did_not_get_through_is_said_loudly(page, stub):
    stub.robot_answers = False
    page.open(stub.link).wait_connected()
    page.click("#stop")
    page.wait("#banner", "STOP DID NOT GET THROUGH: the robot server does not answer")


def test_the_stop_button_is_on_the_screen_on_a_desk_and_on_a_phone(page, stub):
    page.open(stub.link).wait_connected()
    place = (
        "const b = document.getElementById('stop').getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]"
    )
    for width, height, is_mobile in ((1366, 768, False), (390, 844, True)):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile},
        )
        page.run("window.scrollTo(0, 1e6)")
        left, top, right, bottom = page.run(place)
        assert (left >= 0, top >= 0, right <= width, bottom <= height) == (True,) * 4
        assert (right - left) * (bottom - top) > 44 * 44 or (right - left) > 120
