"""A classifier takes a lowered stick for an inserted one; a person at the page says that it was none."""

import re
import time

import claiming
import pytest
from chromium_page import wait_for
from whole import HERE, Play, running

from serl_core.types import EndReason

TRIES = 6  # a person's second may pass before a busy machine has shown them the claim


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    play = Play(claiming.CONFIG, str(HERE / "claiming.py"), "from claiming import Args, run")
    with running(tmp_path_factory.mktemp("veto"), play) as system:
        yield system


def lower_until_claimed(page, whole):
    """Hold F until the classifier claims a success; begin anew when a busy machine has dropped the person's keys."""
    deadline_s, pressed_s = time.monotonic() + 90.0, -1.0
    while page.run("return document.getElementById('veto').disabled"):
        assert time.monotonic() < deadline_s, page.text("#notices")
        whole.revive()
        if page.text("#control") == "paused":
            page.key_up("KeyF", "f")
            page.press("KeyP", "p")
            wait_for(lambda: page.text("#control") != "paused", "the actor going on")
        if page.text("#control") == "policy" and time.monotonic() - pressed_s > 2.0:
            page.key_up("KeyF", "f")
            page.key_down("KeyF", "f")
            pressed_s = time.monotonic()
        time.sleep(0.02)


def claimed_step(page, whole, react):
    """Lower the stick until the classifier claims a success, react to that; return how the step was stored."""
    wait_for(lambda: page.run("return document.getElementById('veto').disabled"), "the end of an earlier claim")
    since = len(whole.learner.stored)
    try:
        lower_until_claimed(page, whole)
        react()
    finally:
        page.key_up("KeyF", "f")

    def stored():  # a busy machine may have ended an episode before, in another way
        ends = (EndReason.SUCCESS, EndReason.OPERATOR_STOP)
        return next((step for step in whole.learner.stored[since:] if step.end in ends), None)

    return wait_for(stored, "the claimed step", 30.0)


def test_a_claim_that_nobody_denies_is_shown_and_stored_as_a_success(page, whole):
    page.open(whole.link).wait_connected()
    step = claimed_step(page, whole, lambda: page.wait("#claim", "success claimed (90 %)"))
    assert (step.end, float(step.reward), float(step.discount)) == (EndReason.SUCCESS, 1.0, 0.0)


def test_a_vetoed_claim_is_stored_without_reward_and_is_no_end_of_the_task(page, whole):
    page.open(whole.link).wait_connected()
    for _ in range(TRIES):
        claimed_step(page, whole, lambda: page.press("KeyV", "v"))
        # In time, or too late; the step may be that of a claim before, which a busy machine has shown to nobody.
        wait_for(lambda: re.search("was none|veto", page.text("#notices")), "a word of it")
        if "was none" in page.text("#notices"):
            break

    def stopped():
        return next((step for step in whole.learner.stored if step.end == EndReason.OPERATOR_STOP), None)

    vetoed = wait_for(stopped, "the vetoed step")
    assert (float(vetoed.reward), float(vetoed.discount)) == (0.0, 1.0)
    page.wait("#claim", "veto sent")
    page.wait("#notices", "was none")
    reviewed = whole.run / "false_positives"
    wait_for(lambda: list(reviewed.glob("*.safetensors")), "the frames for the review")
    assert page.errors() == []
