"""A scripted person has the page and its keys, nothing else: demonstrates RAM insertion, then corrects the policy.

The short form of `benchmarks/console_human.py`, which goes on until the policy does it alone.
"""

import time

import pytest
from chromium_page import wait_for
from whole import arm_and_console

from benchmarks.console_player import Player
from serl_core.data.episode_file import load_episode
from serl_core.types import EndReason

WANTED = 2
STARTS = 4  # of the recording: a simulation that starves on a busy machine ends it
PATIENCE_S = 200.0  # of a person, each time


def play(player, is_over, what):
    """Play until it is over."""
    deadline_s = time.monotonic() + PATIENCE_S
    player.play(lambda: is_over() or time.monotonic() > deadline_s)
    did = f"{player.takeovers} takeovers, {player.resumed} times resumed, {player.recovered} recovered"
    assert is_over(), f"{what}: not within {PATIENCE_S:g} s, with {did}"


def record(page, count):
    """Have the page start a recording; return what tells whether it is over."""
    ends = "return document.getElementById('notices').innerText.split(/recording has ended|recording failed/).length"
    before = page.run(ends)
    page.run("document.getElementById('wanted-demonstrations').value = arguments[0]", count)
    page.click("#start-demonstrations")
    page.run("document.activeElement.blur()")
    return lambda: page.run(ends) > before


def corrected_to_the_end(stored):
    """The last step of an episode that ended in success while a person had control; None while there is none."""
    return next((step for step in stored if step.end == EndReason.SUCCESS and step.is_intervention), None)


@pytest.mark.timeout(1200)
def test_keys_alone_demonstrate_and_correct_until_the_stick_is_in(page, tmp_path):
    with arm_and_console(tmp_path) as (whole, learner_address):
        page.open(whole.link)
        wait_for(lambda: page.text("#run") != "no run", "the console")
        page.click("#tab-record")
        demos, player = whole.run / "demos", Player(page.driver, whole.robot.state, is_demonstrating=True)
        for _ in range(STARTS):
            missing = WANTED - len(list(demos.glob("*.safetensors")))
            if missing:
                play(player, record(page, missing), "two demonstrations")
        assert not missing or page.text("#recorded-demonstrations") == f"{missing} of {missing}"
        episodes = [load_episode(path) for path in sorted(demos.glob("*.safetensors"))]
        assert len(episodes) == WANTED
        assert all(step.is_intervention for episode in episodes for step in episode)
        assert all(episode[-1].end == EndReason.SUCCESS for episode in episodes)

        whole.start_actor(learner_address)  # its policy stands still: it never gets there alone
        player = Player(page.driver, whole.robot.state, is_demonstrating=False)

        def is_corrected():
            whole.revive()  # a machine that is busy may have ended it
            return corrected_to_the_end(whole.learner.stored) is not None

        play(player, is_corrected, "a corrected episode")
        assert player.takeovers
        end = corrected_to_the_end(whole.learner.stored)
        which = end.provenance.session, end.provenance.episode
        episode = [s for s in whole.learner.stored if (s.provenance.session, s.provenance.episode) == which]
        assert not episode[0].is_intervention  # the policy began it
        assert (float(end.reward), float(end.discount)) == (1.0, 0.0)
        assert page.errors() == []
