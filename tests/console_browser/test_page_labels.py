"""Labels: of the running episode, a veto while it counts, and of past episodes with a way back."""

import time

from chromium_page import wait_for
from stub_console import SESSION, STEP

EPISODE = {
    "session": SESSION,
    "episode": 4,
    "end": "success",
    "is_success": True,
    "length_steps": 31,
    "intervention_rate": 0.25,
    "time": 1.0,
    "label": None,
    "has_thumbnail": False,
}


def test_the_running_episode_is_labelled_by_key_and_by_button(page, stub):
    page.open(stub.link).wait_connected()
    for key, label in (("1", "success"), ("2", "failure"), ("3", "discard")):
        stub.heard.clear()
        page.press(f"Digit{key}", key)
        page.click(f"#label-{label}")
        said = [{"kind": "label", "label": label}] * 2
        wait_for(lambda said=said: stub.said("label") == said, f"both labels {label}")


def test_a_claimed_success_can_be_vetoed_within_a_second_and_not_later(page, stub):
    page.open(stub.link).wait_connected()
    page.press("KeyV", "v")  # there is nothing to deny yet
    stub.tell({**STEP, "end": "success", "may_veto": True})
    wait_for(lambda: not page.run("return document.getElementById('veto').disabled"), "the veto")
    page.press("KeyV", "v")
    wait_for(lambda: stub.said("veto") == [{"kind": "veto", "session": SESSION, "episode": 3}], "the veto")
    stub.tell({**STEP, "episode": 4, "end": "success", "may_veto": True})
    wait_for(lambda: not page.run("return document.getElementById('veto').disabled"), "the second veto")
    time.sleep(1.2)
    page.press("KeyV", "v")
    stub.tell({"kind": "notice", "level": "info", "text": "after it"})
    page.wait("#notices", "after it")
    assert len(stub.said("veto")) == 1


def test_a_success_that_no_classifier_claimed_cannot_be_vetoed(page, stub):
    page.open(stub.link).wait_connected()
    stub.tell({**STEP, "end": "success", "may_veto": False, "late_ticks": 9})
    page.wait("#fact-late", "9")
    assert page.run("return document.getElementById('veto').disabled")


def test_pause_and_resume_follow_what_the_actor_says(page, stub):
    page.open(stub.link).wait_connected()
    page.press("KeyP", "p")
    wait_for(lambda: stub.said("pause"), "the pause")
    stub.state_extra |= {"control": "paused"}
    page.wait("#banner", "Paused")
    page.wait("#pause", "Resume")
    page.click("#pause")
    wait_for(lambda: stub.said("resume"), "the resumption")


def test_a_past_episode_is_relabelled_and_the_label_taken_back(page, stub):
    stub.episodes = [dict(EPISODE)]
    page.open(stub.link).wait_connected()
    page.click("#tab-episodes")
    card = f"#episode-{SESSION}-4"
    page.wait(card, "4 · success")
    assert page.run("return document.getElementById('undo').disabled")
    page.click(f"{card} button:last-of-type")
    page.wait(card, "4 · failure (was success)")
    assert stub.said("relabel") == [{"kind": "relabel", "session": SESSION, "episode": 4, "label": "failure"}]
    page.click("#undo")
    page.wait(card, "4 · success")
    assert "was" not in page.text(f"{card} strong")
    assert len(stub.said("undo")) == 1


def test_an_episode_that_ends_now_is_at_the_top_of_the_list(page, stub):
    stub.episodes = [dict(EPISODE)]
    page.open(stub.link).wait_connected()
    page.wait("#episode-list", "4 · success")
    stub.tell({"kind": "episode", **EPISODE, "episode": 5, "end": "time_limit", "is_success": False})
    page.wait("#episode-list li:first-child", "5 · time limit")


def test_a_recording_shows_how_far_it_is(page, stub):
    page.open(stub.link).wait_connected()
    page.click("#tab-record")
    stub.tell({"kind": "record", "what": "demonstrations", "kept": 7, "wanted": 20})
    page.wait("#recorded-demonstrations", "7 of 20")
    assert page.run("return document.getElementById('progress-demonstrations').value") == 7


def test_help_is_asked_for_when_the_critics_differ_and_the_threshold_can_be_moved(page, stub):
    page.open(stub.link).wait_connected()
    stub.tell({"kind": "metrics", "records": [{"kind": "update", "env_steps": 5, "q_mean": 0.5, "q_std": 0.8}]})
    page.wait("#cue", "Help now: the critics differ by 0.80")
    page.wait("#notices", "Help now")
    page.run("const e = document.getElementById('ask-spread'); e.value = 1.5; e.dispatchEvent(new Event('input'))")
    page.wait("#cue", "No help needed")


def test_where_people_helped_and_whether_help_is_needed_outlast_a_reload(page, stub):
    steps = [[3, 0.51, 0.01], [4, 0.5, 0.0]]
    stub.help = {"corrected": steps, "count": 7, "spread": 0.8, "episodes_not_alone": 2}
    page.open(stub.link).wait_connected()
    for _ in range(2):
        page.click("#tab-ask")
        page.wait("#ask", "7 corrected steps in this run, the last 2 of them shown")
        page.wait("#cue", "Help now: the critics differ by 0.80")
        page.driver.refresh()


def test_the_ask_panel_follows_the_run_while_it_is_looked_at(page, stub):
    page.open(stub.link).wait_connected()
    page.click("#tab-ask")
    page.wait("#ask", "0 corrected steps")
    stub.help = {"corrected": [[3, 0.5, 0.0]], "count": 1, "spread": None, "episodes_not_alone": 25}
    page.wait("#ask", "1 corrected step")
    page.wait("#cue", "no success alone in 25 episodes")
