"""A person records frames for the reward classifier from the page: holds a label while it is true."""

import time

import pytest
from chromium_page import wait_for
from whole import Play, arm_and_console

from examples.ram_insertion_pixels import CONFIG
from serl_core.data.labelled_frames import count_labels, load_folders

WANTED = 4  # with success; five times as many without
PATIENCE_S = 120.0


@pytest.fixture
def labelling(page, stub):
    """The page while frames are recorded."""
    stub.state_extra |= {"control": "human", "recording": recording(kept=3)}
    page.open(stub.link).wait_connected()
    wait_for(lambda: page.is_shown("#label-hint"), "the hint")
    return page


def recording(what="classifier", **changes):
    return {"what": what, "kept": 0, "wanted": 200, "failed": 0, "negatives": 9, "negatives_wanted": 1000} | changes


def test_a_label_is_said_again_and_again_while_it_is_held(labelling, stub):
    labelling.key_down("Digit1", "1")
    wait_for(lambda: len(stub.said("label")) > 5, "labels")
    times_s = [at_s for at_s, message in stub.heard if message["kind"] == "label"]
    labelling.key_up("Digit1", "1")
    time.sleep(0.3)  # what was on its way
    count = len(stub.said("label"))
    time.sleep(0.5)
    assert len(stub.said("label")) == count
    assert {message["label"] for message in stub.said("label")} == {"success"}
    assert (times_s[-1] - times_s[0]) / (len(times_s) - 1) < 0.2


def test_the_button_is_held_too_and_the_other_label_takes_its_place(labelling, stub):
    labelling.run("document.getElementById('label-failure').dispatchEvent(new PointerEvent('pointerdown'))")
    wait_for(lambda: len(stub.said("label")) > 3, "labels")
    labelling.key_down("Digit1", "1")
    wait_for(lambda: stub.said("label")[-1]["label"] == "success", "the other label")
    labelling.run("document.getElementById('label-failure').dispatchEvent(new PointerEvent('pointerup'))")
    count = len(stub.said("label"))
    wait_for(lambda: len(stub.said("label")) > count + 3, "the label that is still held")
    labelling.key_up("Digit1", "1")
    assert stub.said("label")[-1]["label"] == "success"


def test_a_held_label_ends_with_the_keyboard_and_with_the_recording(labelling, stub):
    def ends(what):
        labelling.key_down("Digit2", "2")
        wait_for(lambda: stub.said("label") and stub.said("label")[-1]["label"] == "failure", "labels")
        what()
        time.sleep(0.4)
        count = len(stub.said("label"))
        time.sleep(0.4)
        assert len(stub.said("label")) == count
        labelling.key_up("Digit2", "2")
        stub.heard.clear()

    ends(lambda: labelling.run("window.dispatchEvent(new Event('blur'))"))

    def end_recording():
        stub.state_extra.update(recording=None)
        wait_for(lambda: not labelling.is_shown("#label-hint"), "the end of the recording on the page")

    ends(end_recording)
    labelling.key_down("Digit2", "2")  # of an episode again: said once
    wait_for(lambda: stub.said("label"), "the label")
    time.sleep(0.4)
    assert len(stub.said("label")) == 1
    labelling.key_up("Digit2", "2")


def test_both_kinds_of_frames_have_a_bar(labelling, stub):
    labelling.click("#tab-record")
    labelling.wait("#recorded-classifier", "3 of 200")
    labelling.wait("#recorded-others-classifier", "9 of 1000")


def seen(page, css):
    """How many frames an output says there are."""
    words = page.text(css).split(" of ")[0]
    return int(words) if words.isdecimal() else 0


def test_frames_of_both_kinds_are_labelled_while_the_real_recorder_runs(page, tmp_path):
    with arm_and_console(tmp_path, Play(CONFIG, "ram_insertion_pixels")) as (whole, _):
        page.open(whole.link)
        wait_for(lambda: page.text("#run") != "no run", "the console")
        page.click("#tab-record")
        page.run("document.getElementById('wanted-classifier').value = arguments[0]", WANTED)
        page.click("#start-classifier")
        page.run("document.activeElement.blur()")
        ended = "the recording has ended"
        deadline_s = time.monotonic() + PATIENCE_S
        labels = (("2", "#recorded-others-classifier", 6 * WANTED), ("1", "#recorded-classifier", WANTED))
        while ended not in page.text("#notices"):
            assert time.monotonic() < deadline_s, page.text("#notices")
            if page.text("#control") == "paused":
                page.press("KeyP", "p")  # nobody moves before a person comes
                time.sleep(0.5)
            for key, bar, wanted in labels:
                if page.text("#control") == "human" and seen(page, bar) < wanted:
                    page.key_down(f"Digit{key}", key)
                    time.sleep(0.5)
                    page.key_up(f"Digit{key}", key)
                    time.sleep(0.3)
            if page.text("#control") == "human" and all(seen(page, bar) >= wanted for _, bar, wanted in labels):
                page.press("KeyP", "p")  # the episode ends, and its frames are kept
                time.sleep(1.0)
            time.sleep(0.05)
        positives, negatives = count_labels(load_folders([whole.run / "classifier" / "frames"]))
        assert positives >= WANTED
        assert negatives >= 5 * WANTED
        assert page.errors() == []
