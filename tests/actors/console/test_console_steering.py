"""From a page's command to the actor: at once, in the tool's axes, with its age; and never late."""

import time

import numpy as np
import pytest

from serl_core.operator.messages import Label, Pause, Resume, TeleopInput, Veto
from tests.actors.console.rig import FakeActor, console, report, robot, wait_until


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A console with a robot: (served, folder of the run)."""
    folder = tmp_path_factory.mktemp("console")
    with robot() as (url, _), console(folder, robot=url) as served:
        yield served, folder / "run"


@pytest.fixture
def rig(place):
    """An actor, and a page that has heard of it and of the robot: (page, actor, served)."""
    served, run = place
    with FakeActor(run) as actor, served.page() as page:
        page.hear("step", lambda step: step["session"] == actor.session)
        page.hear("state", lambda state: state["robot"])
        yield page, actor, served


def test_a_command_reaches_the_actor_as_it_is(rig):
    page, actor, _ = rig
    page.steer((0.5, -1.0, 0.25, 0.0, 0.1, -0.1), gripper=-1.0, hands_back=True)
    command = actor.wait_for(TeleopInput)
    assert command.twist == (0.5, -1.0, 0.25, 0.0, 0.1, -0.1)
    assert (command.operator, command.gripper, command.engaged, command.hands_back) == (page.operator, -1.0, True, True)
    assert 0.0 <= command.age_ms < 1000.0


def test_every_command_is_forwarded_by_itself(rig):
    page, actor, _ = rig
    for number in range(30):
        page.steer((number / 100, 0, 0, 0, 0, 0))
        time.sleep(0.005)
    actor.wait_for(TeleopInput, 30)
    assert [command.twist[0] for command in actor.heard_of(TeleopInput)] == [number / 100 for number in range(30)]


def test_a_command_in_the_bases_axes_arrives_in_the_tools(rig):
    """The tool of this robot points straight down."""
    page, actor, _ = rig
    page.steer((0.0, 0.5, 1.0, 0.0, 0.0, 0.0), frame="base")
    np.testing.assert_allclose(actor.wait_for(TeleopInput).twist, [0, -0.5, -1, 0, 0, 0], atol=1e-9)


def test_a_command_in_the_cameras_axes_arrives_in_the_tools(rig):
    page, actor, _ = rig
    page.steer((1.0, 0.0, 0.0, 0.0, 0.0, 0.0), frame="camera")
    np.testing.assert_allclose(actor.wait_for(TeleopInput).twist, [0, -1, 0, 0, 0, 0], atol=1e-9)


def test_a_camera_whose_mounting_nobody_knows_steers_nothing_and_says_so(rig):
    page, actor, _ = rig
    page.steer(frame="camera", camera="side_1")
    assert "mounted" in page.hear("notice")["text"]
    page.steer((0.125, 0, 0, 0, 0, 0))
    assert actor.wait_for(TeleopInput).twist[0] == 0.125
    assert len(actor.heard_of(TeleopInput)) == 1


def test_commands_that_came_late_say_how_old_they_are(rig):
    page, actor, _ = rig
    now_ms = time.monotonic() * 1e3
    page.steer(sent_ms=now_ms)
    page.steer(sent_ms=now_ms - 700.0)  # as of a tab that was frozen
    assert 700.0 <= actor.wait_for(TeleopInput, 2).age_ms < 5000.0


def test_an_old_or_repeated_command_is_not_forwarded(rig):
    page, actor, _ = rig
    page.steer((0.1, 0, 0, 0, 0, 0))
    page.sequence -= 1
    page.steer((0.2, 0, 0, 0, 0, 0))
    page.sequence += 5
    page.steer((0.3, 0, 0, 0, 0, 0))
    actor.wait_for(TeleopInput, 2)
    assert [command.twist[0] for command in actor.heard_of(TeleopInput)] == [0.1, 0.3]


def test_the_actor_hears_rising_sequences_also_after_a_page_was_loaded_anew(rig):
    _, actor, served = rig
    for count in (1, 2):
        with served.page("bert") as page:
            page.hear("hello")
            page.steer()
            actor.wait_for(TeleopInput, count)
    first, second = actor.heard_of(TeleopInput)
    assert second.sequence > first.sequence


def test_nothing_is_made_up_for_a_page_that_is_gone(rig):
    """The dead man's switch is the actor's: what it must notice is that nothing comes any more."""
    page, actor, served = rig
    with served.page("bert") as other:
        other.hear("hello")
        other.steer()
        actor.wait_for(TeleopInput)
    page.hear("state", lambda state: state["operators"] == [page.operator])
    time.sleep(0.3)
    assert len(actor.heard_of(TeleopInput)) == 1


@pytest.mark.parametrize(
    "spoiled",
    [
        {"twist": (2.0, 0, 0, 0, 0, 0)},
        {"twist": (0, 0, 0, 0, 0)},
        {"twist": (None, 0, 0, 0, 0, 0)},
        {"twist": "up"},
        {"frame": "moon"},
        {"engaged": 1},
        {"sequence": -1},
        {"sent_ms": -1},
        {"gripper": 2.0},
        {"unknown": 1},
    ],
)
def test_a_spoiled_command_is_refused_and_the_next_one_counts(rig, spoiled):
    page, actor, _ = rig
    page.steer(**spoiled)
    assert "cannot read" in page.hear("notice")["text"]
    page.steer((0.125, 0, 0, 0, 0, 0))
    assert actor.wait_for(TeleopInput).twist[0] == 0.125


def test_numbers_that_are_none_are_refused(rig):
    page, actor, _ = rig
    for number in ("NaN", "Infinity", "1e999"):
        text = '{"kind": "teleop", "sequence": 1, "sent_ms": 1, "engaged": true, "twist": [%s, 0, 0, 0, 0, 0]}'
        page.socket.send(text % number)
    page.steer((0.125, 0, 0, 0, 0, 0))
    actor.wait_for(TeleopInput)
    assert len(actor.heard_of(TeleopInput)) == 1


def test_labels_are_for_the_episode_that_the_person_saw(rig):
    page, actor, _ = rig
    actor.say(report(session="abc", episode=8))
    page.hear("step", lambda step: step["episode"] == 8)
    page.say("label", label="success")
    assert actor.wait_for(Label) == Label(operator=page.operator, label="success", session="abc", episode=8)
    page.say("label", label="discard", session="abc", episode=7)
    assert actor.wait_for(Label, 2) == Label(operator=page.operator, label="discard", session="abc", episode=7)


def test_veto_pause_and_resume_go_to_the_actor(rig):
    page, actor, _ = rig
    page.say("veto", session="abc", episode=8)
    page.say("pause")
    page.say("resume")
    assert actor.wait_for(Veto) == Veto(operator=page.operator, session="abc", episode=8)
    assert actor.wait_for(Pause) == Pause(operator=page.operator)
    assert actor.wait_for(Resume) == Resume(operator=page.operator)


def test_two_pages_are_two_operators(rig):
    page, actor, served = rig
    with served.page("anna") as other:
        assert other.hear("hello")["operator"] != page.operator
        page.steer()
        other.steer()
        actor.wait_for(TeleopInput, 2)
    assert {command.operator for command in actor.heard_of(TeleopInput)} == {page.operator, other.operator}


def test_without_an_actor_a_person_at_the_controls_is_told(tmp_path):
    with console(tmp_path) as served, served.page() as page:
        page.steer()
        assert "nobody takes the commands: no actor runs" in page.hear("notice")["text"]
        page.say("pause")
        assert "pause was not sent" in page.hear("notice")["text"]


def test_a_command_for_a_frozen_actor_does_not_come_late(rig):
    """It is dropped once the actor has been silent for 3 s; before, the actor's own clock tells its age."""
    page, actor, _ = rig
    actor.is_frozen.set()
    page.hear("state", lambda state: state["missing"]["actor"])
    page.steer()
    assert "nobody takes" in page.hear("notice")["text"]
    actor.is_frozen.clear()
    page.hear("state", lambda state: state["missing"]["actor"] is None)
    page.steer((0.125, 0, 0, 0, 0, 0))
    wait_until(lambda: actor.heard_of(TeleopInput))
    assert [command.twist[0] for command in actor.heard_of(TeleopInput)] == [0.125]
