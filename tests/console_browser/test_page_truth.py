"""What the page says is so: who has control, why the arm stands, what cannot be pressed, what was left out."""

import pytest
from chromium_page import wait_for
from stub_console import SESSION
from test_page_labels import EPISODE

OTHER = "actor-1 commands the arm at http://127.0.0.1:5001, and Stop goes to http://127.0.0.1:5000"
IDLE = {"is_running": False, "why_not": None}


@pytest.fixture
def shown(page, stub):
    page.open(stub.link).wait_connected()
    return page


def is_disabled(page, name):
    return page.run(f"return document.getElementById('{name}').disabled")


def test_a_stop_that_was_asked_for_is_said_to_be_a_person_s(shown, stub):
    """It said "Stopped: stop."."""
    stub.robot |= {"mode": "stopped", "fault": "stop"}
    shown.wait("#banner", "Stopped by a person.")
    stub.robot |= {"fault": "watchdog"}
    shown.wait("#banner", "Stopped: watchdog.")


def test_an_arm_that_is_steered_and_not_stopped_from_here_is_said_in_red_before_all_else(shown, stub):
    stub.state_extra |= {"other_robot": OTHER, "control": "paused"}
    shown.wait("#banner", f"{OTHER}.")
    assert shown.run("return document.getElementById('banner').dataset.level") == "error"
    stub.robot |= {"mode": "stopped", "fault": "stop"}
    shown.wait("#banner", f"{OTHER}. Stopped by a person.")
    shown.click("#way-out")
    wait_for(lambda: stub.said("resume_robot"), "the way out of the stop")


def test_without_an_actor_the_pill_says_so_and_does_not_keep_what_it_said_last(shown, stub):
    """It went on to say "policy", or "unknown", while `serl eval` had the arm."""
    shown.wait("#control", "policy")
    missing = {"actor": "no actor runs with the run's folder"}
    stub.state_extra |= {"control": None, "missing": missing}
    shown.wait("#control", "another program")  # it has a lease
    stub.robot |= {"lease_epoch": 0}
    shown.wait("#control", "no actor")
    stub.robot |= {"mode": "stopped"}
    stub.state_extra |= {"control": "stopped"}
    shown.wait("#control", "stopped")


def test_a_recording_that_cannot_begin_or_end_cannot_be_asked_for(shown, stub):
    """Both answered in red."""
    shown.click("#tab-record")
    assert is_disabled(shown, "end-demonstrations")
    stub.state_extra |= {"recorder": IDLE | {"why_not": "actor-0 has the arm; end it before a recording"}}
    wait_for(lambda: is_disabled(shown, "start-demonstrations"), "no start")
    assert "actor-0 has the arm" in shown.run("return document.getElementById('start-demonstrations').title")
    stub.state_extra |= {"recorder": {"is_running": True, "why_not": "a recording is under way already"}}
    wait_for(lambda: not is_disabled(shown, "end-demonstrations"), "the end")
    assert is_disabled(shown, "start-classifier")
    stub.state_extra |= {"recorder": IDLE}
    wait_for(lambda: not is_disabled(shown, "start-classifier"), "the start")
    assert is_disabled(shown, "end-classifier")


def test_episodes_without_pictures_show_no_empty_box(page, stub):
    stub.episodes = [EPISODE | {"has_thumbnail": True, "episode": 5}, EPISODE]
    page.open(stub.link).wait_connected()
    page.click("#tab-episodes")
    page.wait(f"#episode-{SESSION}-4", "success")
    assert not page.is_shown(f"#episode-{SESSION}-4 canvas")
    assert page.is_shown(f"#episode-{SESSION}-5 canvas")


def test_numbers_that_the_list_leaves_out_are_said_to_be_abandoned(page, stub):
    stub.episodes = [EPISODE | {"session": "0ther", "episode": 9}, EPISODE | {"episode": 4}, EPISODE | {"episode": 2}]
    page.open(stub.link).wait_connected()
    page.click("#tab-episodes")
    page.wait(f"#episode-{SESSION}-4", "3 was abandoned")
    assert "abandoned" not in page.text(f"#episode-{SESSION}-2")
    assert "abandoned" not in page.text("#episode-0ther-9")
    stub.tell({"kind": "episode", **EPISODE, "session": "0ther", "episode": 12})
    page.wait("#episode-0ther-12", "10 to 11 were abandoned")


def test_the_labels_of_a_curve_s_axis_are_not_cut_off(page, stub):
    """Of 0.00975 the page showed "00975"."""
    stub.metrics = [
        {"env_steps": step, "temperature": 0.00975 - 1e-7 * step, "q_mean": 1.0 + step} for step in range(0, 1000, 10)
    ]
    page.open(stub.link).wait_connected()
    widths = "return [...document.querySelectorAll('#charts .u-over')].map((over) => parseFloat(over.style.left))"
    wait_for(lambda: len(page.run(widths)) == 2, "both charts")
    fits = """const context = document.createElement('canvas').getContext('2d');
        context.font = '10px system-ui';
        return context.measureText('0.00975').width + 12;"""  # ticks of 10, a gap of 2
    room = max(page.run(widths))
    assert room >= page.run(fits)
    assert min(page.run(widths)) < room  # short labels take no more than they need
