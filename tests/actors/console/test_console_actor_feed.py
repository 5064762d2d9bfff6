"""The console's end of the operator link: it finds the actor, and finds it again."""

import asyncio
import os
import time

import pytest

from actors.console import actor_feed
from actors.console.actor_feed import ActorFeed
from actors.console.operator_file import find_actor
from actors.operator_link import OperatorLink
from serl_core.operator.messages import Control, OperatorNotice, Pause, Picture, RecordProgress
from tests.actors.console.rig import FakeActor, console, report, run_async, wait_until


@pytest.fixture
def rig(tmp_path):
    """A console that an actor is connected to, and a page: (page, actor, served)."""
    with console(tmp_path) as served, FakeActor(tmp_path / "run") as actor, served.page() as page:
        page.hear("step")
        yield page, actor, served


def test_a_report_reaches_the_page_as_a_step(rig):
    page, actor, _ = rig
    actor.say(report(step=41, control=Control.HUMAN, operator="anna", is_intervention=True))
    step = page.hear("step", lambda step: step["step"] == 41)
    assert (step["control"], step["operator"], step["is_intervention"]) == ("human", "anna", True)
    state = page.hear("state", lambda state: state["control"] == "human")
    assert state["operator"] == "anna"
    assert state["ages"]["actor_s"] < 3.0


def test_the_end_of_an_episode_is_told_once_however_often_the_actor_repeats_it(rig):
    """The page opens the time for a veto with it."""
    page, actor, _ = rig
    for _ in range(3):
        actor.say(report(step=55, end="success", reward=1.0))
    actor.say(report(step=56))
    ends = []
    page.hear("step", lambda step: ends.append(step) or step["step"] == 56)
    assert [step["end"] for step in ends].count("success") == 1


def test_a_simulation_that_runs_fast_is_told_ten_times_a_second(rig):
    page, actor, _ = rig
    began_s = time.monotonic()
    for step in range(200):
        actor.say(report(episode=9, step=step))
    steps = []
    page.hear("step", lambda step: steps.append(step["step"]) or step["step"] == 199)
    assert len(steps) <= 2 + 10 * (time.monotonic() - began_s)


def test_no_end_is_lost_on_a_page_that_reads_slowly(rig):
    page, actor, _ = rig
    for episode in range(20):
        actor.say(report(episode=episode, end="success"))
        actor.say(report(episode=episode, step=1))
    actor.say(report(episode=20))
    ended = []
    page.hear(
        "step", lambda step: (step["end"] == "success" and ended.append(step["episode"])) or step["episode"] == 20
    )
    assert [episode for episode in ended if episode != 3][:19] == [e for e in range(20) if e != 3]


def test_notices_and_progress_reach_the_page(rig):
    page, actor, _ = rig
    actor.say(OperatorNotice(level="warning", text="bert is steering"))
    assert page.hear("notice") == {"kind": "notice", "level": "warning", "text": "bert is steering"}
    actor.say(RecordProgress(what="demonstrations", kept=3, wanted=20))
    assert page.hear("record")["kept"] == 3


def test_a_notice_for_one_operator_reaches_nobody_else(tmp_path):
    with (
        console(tmp_path) as served,
        FakeActor(tmp_path / "run") as actor,
        served.page("anna") as anna,
        served.page("bert") as bert,
    ):
        for page in (anna, bert):
            page.hear("step")
        actor.say(OperatorNotice(level="warning", text="anna is steering", operator="bert"))
        actor.say(OperatorNotice(level="info", text="for all"))
        assert [bert.hear("notice")["text"] for _ in range(2)] == ["anna is steering", "for all"]
        assert anna.hear("notice")["text"] == "for all"


def test_how_far_a_recording_is_outlasts_a_reload_and_ends_with_the_recorder(tmp_path):
    with console(tmp_path) as served:
        with FakeActor(tmp_path / "run", "recorder") as actor:
            actor.say(RecordProgress(what="classifier", kept=3, wanted=200, negatives=8))
            for _ in range(2):
                with served.page() as page:
                    told = page.hear("state", lambda state: state["recording"])["recording"]
                    assert (told["what"], told["kept"], told["negatives"]) == ("classifier", 3, 8)
        with served.page() as page:
            page.hear("state", lambda state: state["missing"]["actor"] and state["recording"] is None)


def test_what_an_actor_says_last_is_heard_although_its_file_is_gone_by_then(tmp_path, monkeypatch):
    """A recorder says that it has all, and ends; all that may happen while the console looks for its file."""
    last = RecordProgress(what="demonstrations", kept=20, wanted=20)
    heard = []

    async def follow_to_the_end(actor):
        feed = ActorFeed(tmp_path, None, heard.append)

        def find(*args):
            if heard and actor.path.exists():
                actor.say(last)
                wait_until(lambda: actor.has_said(last))
                actor.path.unlink()
            return find_actor(*args)

        monkeypatch.setattr(actor_feed, "find_actor", find)
        following = asyncio.create_task(feed.follow())
        while feed.problem != f"no actor runs with {tmp_path}" or not heard:
            await asyncio.sleep(0.01)
        assert not feed.is_there
        following.cancel()

    with FakeActor(tmp_path, "recorder") as actor:
        run_async(follow_to_the_end(actor))
    assert heard[-1] == last


@pytest.mark.parametrize("busy_s", [0.0, 0.2])
def test_what_an_actor_says_last_is_heard_by_a_console_that_was_busy_while_it_ended(tmp_path, busy_s):
    """ZeroMQ drops what was not read when a line is closed: the actor waits for its consoles to hang up."""
    last = RecordProgress(what="demonstrations", kept=20, wanted=20)
    heard = []

    async def follow_to_the_end(link):
        feed = ActorFeed(tmp_path, None, heard.append)
        following = asyncio.create_task(feed.follow())
        while not heard:
            await asyncio.sleep(0.01)
        link.tell(last)
        ending = asyncio.create_task(asyncio.to_thread(link.__exit__))
        await asyncio.sleep(0)
        time.sleep(busy_s)  # the console's loop hears nothing meanwhile
        await ending
        following.cancel()

    link = OperatorLink(tmp_path / "recorder.operator", lambda message, arrived_s: [])
    link.__enter__()
    link.tell(report())
    run_async(follow_to_the_end(link))
    assert heard.count(last) == 1


def test_a_picture_of_the_actor_reaches_the_page(rig):
    page, actor, _ = rig
    actor.say(Picture(name="desk", stamp_s=1.0, jpeg=b"\xff\xd8\xff"))
    assert page.hear("picture")["packet"] == b"\x04desk\xff\xd8\xff"


def test_an_actor_that_restarts_is_found_again(tmp_path):
    with console(tmp_path) as served, served.page() as page:
        assert "no actor" in page.hear("state")["missing"]["actor"]
        for token in ("one", "two"):
            with FakeActor(tmp_path / "run", token=token) as actor:
                page.hear("state", lambda state: state["missing"]["actor"] is None and state["control"] == "policy")
                page.say("pause")
                actor.wait_for(Pause)
                assert set(actor.hellos) == {token}
            page.hear("state", lambda state: state["missing"]["actor"] and state["control"] is None)


def test_the_greeting_is_repeated_as_a_new_connection_is_a_stranger(rig):
    _, actor, _ = rig
    wait_until(lambda: len(actor.hellos) >= 3)


def test_the_newest_actor_is_taken_unless_one_is_named(tmp_path):
    with FakeActor(tmp_path, "actor-0") as old, FakeActor(tmp_path, "recorder") as new:
        os.utime(old.path, (1, 1))
        assert find_actor(tmp_path, None).actor_id == "recorder"
        assert find_actor(tmp_path, "actor-0").actor_id == "actor-0"
        assert find_actor(tmp_path, "actor-1") is None
        assert new.path.exists()


def test_a_file_that_cannot_be_trusted_is_not_used(tmp_path):
    path = tmp_path / "actor-0.operator"
    for text, reason in (
        ("{", "is no operator file"),
        ('{"address": "tcp://10.0.0.1:80", "token": "x"}', "is not on this machine"),
        ('{"address": "ipc:///tmp/x", "token": "x"}', "is not on this machine"),
        ('{"address": "tcp://127.0.0.1", "token": "x"}', "is not on this machine"),
    ):
        path.write_text(text)
        path.chmod(0o600)
        found = find_actor(tmp_path, None)
        assert found.address is None
        assert reason in found.problem
    path.chmod(0o666)
    assert "can be written by others" in find_actor(tmp_path, None).problem
