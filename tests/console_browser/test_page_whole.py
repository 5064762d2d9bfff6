"""The real console before a simulated arm: a person in a browser corrects, is lost, stops; and who may not."""

import itertools
import json
import logging
import re
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from chromium_page import Page, wait_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from whole import running

from serl_core.data.metrics_file import MetricsWriter

MAX_REST_S = 1.0  # after a tab froze; 0.45 s are promised, of a machine that has nothing else to do
STILL_M_S = 0.01


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with running(tmp_path_factory.mktemp("whole")) as system:
        yield system


@pytest.fixture
def acting(page, whole):
    """The page, while the policy acts."""
    page.open(whole.link)
    wait_for(lambda: page.text("#run") != "no run", "the console")
    page.run("const e = document.getElementById('speed'); e.value = 100; e.dispatchEvent(new Event('input'))")
    return free(page, whole)


def free(page, whole):
    """Resume whatever holds the arm, until the policy acts."""

    pressed_s = 0.0

    def acts():
        nonlocal pressed_s
        if time.monotonic() - pressed_s > 1.0:  # an actor takes a while to come back
            page.run("document.getElementById('way-out')?.click()")
            pressed_s = time.monotonic()
            whole.revive()
        return page.text("#control") == "policy"

    try:
        wait_for(acts, "the policy in control", 60.0)
    except AssertionError as error:
        says = " | ".join(page.text(css) for css in ("#control", "#ages", "#banner", "#fact-mode", "#notices"))
        raise AssertionError(f"{error}: {says}") from None
    return page


class Disturbed(Exception):
    """The machine was so busy that commands came late: nobody was believed, as it must be. Try again."""


def calmly(page, whole, act):
    """Do something at the controls; again when the dead man's switch fell because the machine was busy."""
    lost = "return document.getElementById('notices').innerText.split(/no longer steer|connection to operator/).length"
    for _ in range(5):
        before = page.run(lost)

        def until(condition, what, before=before):
            def is_true():
                if page.run(lost) > before or not whole.is_acting:
                    raise Disturbed
                return condition()

            return wait_for(is_true, what)

        try:
            return act(until)
        except Disturbed:
            logging.getLogger(__name__).info("disturbed: %s", page.text("#notices"))
            page.driver.refresh()
            free(page, whole)
    raise AssertionError("the machine was too busy five times")


def new(whole, since):
    return whole.learner.stored[since:]


def test_keys_move_the_arm_and_the_steps_are_stored_as_interventions(acting, whole):
    def lower(until):
        since, start = len(whole.learner.stored), whole.tcp()
        acting.key_down("KeyF", "f")
        until(lambda: acting.text("#control") == "human", "a person in control")
        until(lambda: whole.tcp()[2] < start[2] - 0.02, "the tool lower")
        acting.key_up("KeyF", "f")
        until(lambda: acting.text("#control") == "policy", "the policy again")
        until(lambda: new(whole, since) and not new(whole, since)[-1].is_intervention, "its steps")
        return [transition for transition in new(whole, since) if transition.is_intervention]

    corrected = calmly(acting, whole, lower)
    assert len(corrected) >= 2
    assert max(transition.action[2] for transition in corrected) == pytest.approx(1.0)  # down along the tool
    acting.click("#tab-ask")
    wait_for(lambda: corrected_steps(acting) >= len(corrected), "the corrected steps, out of the actor's log")
    acting.driver.refresh()
    acting.click("#tab-ask")
    wait_for(lambda: corrected_steps(acting) >= len(corrected), "the same after a reload")
    assert acting.errors() == []


def corrected_steps(page):
    found = re.search(r"(\d+) corrected steps", page.text("#ask"))
    return int(found[1]) if found else 0


def test_a_frozen_tab_brings_the_arm_to_rest_and_pauses(acting, whole):
    """Five tries: on a busy machine a tick may come late, or the page stand still before it is frozen."""
    took_s = []
    while not any(took_s) or min(filter(None, took_s)) > MAX_REST_S:
        assert len(took_s) < 5, took_s
        took_s.append(rest_after_freeze_s(free(acting, whole), whole))
        acting.wait("#control", "paused")
        acting.wait("#notices", "lost")
    logging.getLogger(__name__).info("at rest after %s s", took_s)


def rest_after_freeze_s(page, whole):
    """Steer, freeze the tab, and return how long the arm then still moved; None if it did not move before."""
    wait_for(lambda: int(page.text("#fact-episode").split()[-1]) < 40, "time until the next reset")
    page.run("const e = document.getElementById('speed'); e.value = 40; e.dispatchEvent(new Event('input'))")
    key = "d" if whole.tcp()[1] > 0 else "a"  # towards the far side of the box
    page.key_down(f"Key{key.upper()}", key)
    page.wait("#control", "human")
    time.sleep(0.3)
    frozen = []
    script = "const at = Date.now(), end = at + 2000; while (Date.now() < end) {} return at / 1e3"
    freeze = threading.Thread(target=lambda: frozen.append(page.run(script)))
    freeze.start()
    places = []
    while freeze.is_alive():
        places.append((time.time(), whole.tcp()))
        time.sleep(0.02)
    freeze.join()
    page.key_up(f"Key{key.upper()}", key)
    steps = [(b[0], np.linalg.norm(b[1] - a[1]) / (b[0] - a[0])) for a, b in itertools.pairwise(places)]
    moving = [at_s for at_s, speed_m_s in steps if speed_m_s > STILL_M_S]
    return max(moving) - frozen[0] if moving and moving[0] < frozen[0] + 0.1 else None


def test_a_cut_connection_pauses_and_resume_begins_a_new_episode(acting, whole):
    acting.key_down("KeyA", "a")
    acting.wait("#control", "human")
    since = len(whole.learner.stored)
    acting.driver.get("about:blank")  # the page is gone with the key held
    second = Page(acting.driver).open(whole.link).wait_connected()
    second.wait("#control", "paused")
    episode = whole.learner.stored[-1].provenance.episode
    second.click("#pause")
    wait_for(lambda: second.text("#control") == "policy", "the policy again")
    wait_for(lambda: new(whole, since) and whole.learner.stored[-1].provenance.episode > episode, "a new episode")


def test_the_second_operator_watches(acting, whole):
    def both(until):
        acting.press("KeyT", "t")
        until(lambda: "you" in acting.text("#who"), "the first operator in control")
        # A second tab would hide the first, which then lets go: bob comes without a window.
        with speaking(whole, "bob") as (say, hear):
            since = len(whole.learner.stored)
            for _ in range(20):
                say({"kind": "teleop", "twist": [0, 0, 0, 0, 0, 1], "engaged": True})
                time.sleep(0.03)
            notices = hear()
            until(lambda: len(new(whole, since)) > 3, "steps")
            return notices, new(whole, since)

    notices, steps = calmly(acting, whole, both)
    assert any("is steering" in text for text in notices)
    assert max(abs(step.action[5]) for step in steps) < 0.5
    acting.press("KeyH", "h")


def test_the_space_bar_stops_the_arm_and_the_page_frees_it(acting, whole):
    acting.press("Space", " ")
    wait_for(lambda: whole.robot.state().mode.value == "stopped", "the stop")
    acting.wait("#control", "stopped")
    free(acting, whole)
    assert whole.robot.state().mode.value != "stopped"


def test_a_relabel_and_its_undo_reach_the_run_and_outlast_a_reload(page, whole):
    first = whole.learner.stored[0].provenance
    record = {"env_steps": 9, "episode": first.episode, "session": first.session, "is_success": True, "end": "success"}
    with MetricsWriter(whole.run / "metrics.jsonl") as metrics:
        metrics.write("episode", {**record, "length_steps": 9, "intervention_rate": 0.0})
    page.open(whole.link)
    page.click("#tab-episodes")
    card = f"#episode-{first.session}-{first.episode}"
    page.wait(card, "success")
    page.click(f"{card} button:last-of-type")
    page.wait(card, "failure (was success)")
    page.driver.refresh()
    page.click("#tab-episodes")
    page.wait(card, "failure (was success)")
    page.click("#undo")
    wait_for(lambda: "was" not in page.text(card), "the old label")
    lines = [json.loads(line) for line in (whole.run / "relabels.jsonl").read_text().splitlines()]
    assert [(line["episode"], line["label"]) for line in lines] == [(first.episode, "failure"), (first.episode, None)]


def test_a_wrong_token_sees_nothing(page, whole):
    page.open(whole.link[:-4] + "beef")
    page.wait("#banner", "token is wrong")
    assert page.text("#run") == "no run"


def test_a_page_of_another_origin_is_refused(whole):
    address = whole.link.split("/#")[0]
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{address.removeprefix('http://')}/ws", origin="http://evil.example", proxy=None)
    assert refused.value.response.status_code == 403


@contextmanager
def speaking(whole, operator):
    """A second page without a window: says what it is given, and tells which notices it heard."""
    host = whole.link.split("/#")[0].removeprefix("http://")
    sequence = itertools.count(1)
    with connect(f"ws://{host}/ws", origin=f"http://{host}", proxy=None, close_timeout=0.2) as socket:

        def say(message):
            if message["kind"] == "teleop":
                message = message | {"sequence": next(sequence), "sent_ms": time.monotonic() * 1e3}
            socket.send(json.dumps(message))

        def hear():
            notices, deadline_s = [], time.monotonic() + 5.0
            while time.monotonic() < deadline_s and not any("is steering" in text for text in notices):
                packet = socket.recv(timeout=5.0)
                if isinstance(packet, str) and (message := json.loads(packet))["kind"] == "notice":
                    notices.append(message["text"])
            return notices

        say({"kind": "hello", "token": whole.token, "operator": operator})
        yield say, hear
