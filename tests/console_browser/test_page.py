"""What the page shows: live, of whatever is there, and what is missing."""

import numpy as np
from chromium_page import wait_for
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from stub_console import STEP, TOKEN, picture


def test_the_page_loads_and_takes_the_token_out_of_the_address(page, stub):
    page.open(stub.link).wait_connected()
    page.wait("#run", "ram-7 · ram_insertion")
    assert TOKEN not in page.run("return location.href")
    assert page.errors() == []


def test_a_reload_needs_no_second_link(page, stub):
    page.open(stub.link).wait_connected()
    page.driver.refresh()
    page.wait_connected()


def test_a_wrong_token_is_refused_and_said(page, stub):
    page.open(stub.link[:-1] + "1")
    page.wait("#banner", "token is wrong")
    wait_for(lambda: len(stub.said("hello")) == 1, "one hello")
    page.call("await new Promise((go) => setTimeout(go, 1000))")
    assert len(stub.said("hello")) == 1  # it does not knock again and again


def test_without_a_token_the_page_says_what_to_open(page, stub):
    page.open(f"http://127.0.0.1:{stub.port}/")
    page.wait("#banner", "open the link")


def test_what_the_robot_and_the_actor_say_is_shown_live(page, stub):
    page.open(stub.link).wait_connected()
    stub.robot |= {"tcp_wrench": [1.0, 2.0, -13.0, 0.0, 0.0, 0.0]}
    page.wait("#wrench", "-13.0 / 20 N")
    stub.tell({**STEP, "late_ticks": 3, "success_probability": 0.93})
    page.wait("#fact-late", "3")
    page.wait("#probability-value", "93 %")
    stub.state_extra |= {"control": "human", "operator": "ada"}
    page.wait("#control", "human")
    page.wait("#who", "ada")


def test_the_newest_picture_of_each_camera_is_drawn(page, stub):
    page.open(stub.link).wait_connected()
    for name, red in (("wrist", 40), ("side", 220)):
        stub.tell(picture(name, np.full((32, 48, 3), (red, 0, 0), np.uint8)))
    at_the_middle = """return [...document.querySelectorAll('.cameras figure')].map((figure) => {
        const canvas = figure.querySelector('canvas');
        const middle = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
        return [figure.innerText, middle.data[0]];
    })"""

    def are_drawn():
        seen = dict(page.run(at_the_middle))
        return abs(seen["wrist"] - 40) < 12 and abs(seen["side"] - 220) < 12

    wait_for(are_drawn, "both pictures")


def test_what_is_missing_is_said_and_the_rest_goes_on(page, stub):
    stub.robot = None
    stub.state_extra |= {
        "control": None,
        "missing": {"robot": "the robot server does not answer", "actor": "no actor runs"},
    }
    page.open(stub.link)
    page.wait("#banner", "the robot server does not answer")
    page.wait("#ages", "no actor")
    page.wait("#history-state", "")
    stub.tell({"kind": "notice", "level": "info", "text": "still here"})
    page.wait("#notices", "still here")
    assert page.errors() == []


def test_a_fault_shows_its_cause_and_the_way_out(page, stub):
    page.open(stub.link).wait_connected()
    stub.robot |= {"mode": "fault", "fault": "cartesian_reflex"}
    page.wait("#banner", "cartesian_reflex")
    page.click("#way-out")
    wait_for(lambda: stub.said("recover") == [{"kind": "recover", "cause": "cartesian_reflex"}], "the request")


def test_the_page_comes_back_by_itself_after_the_console_was_gone(page, stub):
    page.open(stub.link).wait_connected()
    stub.cut()
    wait_for(lambda: len(stub.said("hello")) == 2, "a second hello")
    page.wait_connected()


def test_everything_is_reached_with_the_keyboard_alone(page, stub):
    page.open(stub.link).wait_connected()
    reached, keys = set(), ActionChains(page.driver)
    for _ in range(40):
        keys.send_keys(Keys.TAB).perform()
        focused = page.run(
            """const element = document.activeElement, style = getComputedStyle(element);
            return [element.id, style.outlineStyle !== 'none' && style.outlineWidth !== '0px'];"""
        )
        if focused[0]:
            assert focused[1], f"{focused[0]} does not show that it has the focus"
            reached.add(focused[0])
    assert {"stop", "pause", "keep", "speed", "frame", "label-success", "tab-follow", "notices"} <= reached
    page.run("document.getElementById('tab-follow').focus()")
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    assert page.is_shown("#episodes")
    assert not page.is_shown("#follow")


def test_dark_and_light_follow_the_system_until_a_person_chooses(page, stub):
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    page.open(stub.link).wait_connected()
    theme = "return document.documentElement.dataset.theme"
    assert page.run(theme) == "dark"
    page.click("#theme")
    assert page.run(theme) == "light"
    page.driver.refresh()
    page.wait_connected()
    assert page.run(theme) == "light"


def test_on_a_desk_nothing_but_the_right_column_needs_scrolling(page, stub):
    page.open(stub.link).wait_connected()
    page.driver.set_window_size(1366, 768)
    hidden = """return ['html', '.see', '.correct'].filter((css) => {
        const element = document.querySelector(css);
        return element.scrollHeight > element.clientHeight + 1 || element.scrollWidth > element.clientWidth + 1;
    })"""
    assert page.run(hidden) == []
    stub.robot |= {"mode": "stopped", "fault": "stop by ada"}
    page.wait("#banner", "stop by ada")
    assert page.run(hidden) == []
