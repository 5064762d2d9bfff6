"""Two arms in one run's folder: a person at the page never steers one arm and stops the other."""

import time
from contextlib import contextmanager

import msgspec
import pytest

from actors.console.same_robot import is_same_robot
from serl_core.operator.messages import Label, OperatorAddress, Pause, Recover, Resume, ResumeRobot, TeleopInput
from serl_core.robots.messages import Health, Mode
from tests.actors.console.rig import FakeActor, console, robot

OTHER = "http://127.0.0.1:5999"  # nobody listens there, and nobody asks


def actor_of(url, server=None):
    return OperatorAddress(address="tcp://127.0.0.1:1", token="x", robot=url, server=server)


def health(server):
    return Health(backend="fake", clock="real_time", is_simulated=True, server=server)


@pytest.mark.parametrize(
    ("ours", "known", "actor", "is_same"),
    [
        ("http://127.0.0.1:5000", None, actor_of("http://127.0.0.1:5000/"), True),
        ("http://localhost:5000", None, actor_of("http://127.0.0.1:5000"), True),
        ("https://arm", None, actor_of("https://ARM:443"), True),
        ("http://127.0.0.1:5000", None, actor_of("http://127.0.0.1:5001"), False),
        ("http://arm-1:5000", None, actor_of("http://arm-2:5000"), False),
        ("http://arm:5000", None, actor_of("https://arm:5000"), False),
        # Through a tunnel the addresses differ.
        ("http://127.0.0.1:5000", health("a"), actor_of("http://arm:5000", "a"), True),
        ("http://127.0.0.1:5000", health("a"), actor_of("http://arm:5000", "b"), False),
        ("http://127.0.0.1:5000", health(None), actor_of("http://arm:5000"), False),
        # The server was started anew since the actor has asked.
        ("http://127.0.0.1:5000", health("b"), actor_of("http://127.0.0.1:5000", "a"), True),
        # The arm is simulated in the actor's own process.
        ("http://127.0.0.1:5000", None, actor_of(None), True),
        (None, None, actor_of(None), True),
        (None, None, actor_of("http://127.0.0.1:5000"), False),
    ],
)
def test_one_robot_server_is_known_by_its_address_or_by_what_it_calls_itself(ours, known, actor, is_same):
    assert is_same_robot(ours, known, actor) is is_same


@contextmanager
def actor_elsewhere(folder):
    """A console whose only actor commands another arm: (page, actor, service of the console's own arm, served)."""
    with (
        robot() as (url, service),
        console(folder, robot=url) as served,
        FakeActor(folder / "run", robot=OTHER, server="another") as actor,
        served.page() as page,
    ):
        page.hear("step")
        yield page, actor, service, served


def test_an_arm_that_the_console_does_not_stop_is_not_steered_and_the_page_says_so(tmp_path):
    with actor_elsewhere(tmp_path) as (page, actor, _, _):
        state = page.hear("state", lambda state: state["robot"] and state["other_robot"])
        assert f"actor-0 commands the arm at {OTHER}, and Stop goes to http://127.0.0.1" in state["other_robot"]
        assert f"--robot {OTHER}" in state["other_robot"]
        page.steer()
        assert "nothing is steered from here" in page.hear("notice", lambda notice: "nobody" in notice["text"])["text"]
        page.say("resume")
        assert "resume was not sent: actor-0 commands" in page.hear("notice")["text"]
        page.say("pause")
        page.say("label", label="discard")
        actor.wait_for(Label)  # what ends a motion goes through
        actor.wait_for(Pause)
        assert not actor.heard_of(TeleopInput)
        assert not actor.heard_of(Resume)


def test_what_frees_a_robot_goes_to_the_one_that_the_page_shows(tmp_path):
    with actor_elsewhere(tmp_path) as (page, actor, service, served):
        assert served.client.post("/stop").status_code == 200
        assert service.state().mode is Mode.STOPPED
        page.say("resume_robot")
        page.hear("notice", lambda notice: "resume, the arm holds" in notice["text"])
        assert service.state().mode is Mode.HOLD
        assert not actor.heard_of(ResumeRobot)
        assert not actor.heard_of(Recover)


def test_of_two_actors_the_page_steers_the_one_whose_arm_it_stops_though_the_other_is_newer(tmp_path):
    """It steered the newest actor, while Stop went to --robot: another arm."""
    with (
        robot() as (url, service),
        console(tmp_path, robot=url) as served,
        served.page() as page,
        FakeActor(tmp_path / "run", "ours", robot=url) as ours,
    ):
        page.hear("step", lambda step: step["session"] == ours.session)
        time.sleep(0.02)  # its file is older
        with FakeActor(tmp_path / "run", "theirs", robot=OTHER) as theirs:
            assert theirs.path.stat().st_mtime_ns > ours.path.stat().st_mtime_ns
            time.sleep(0.4)  # the console has looked again
            page.steer()
            ours.wait_for(TeleopInput)
            assert not theirs.hellos
            assert page.hear("state")["other_robot"] is None
            served.client.post("/stop")
            assert service.state().mode is Mode.STOPPED


def test_an_actor_that_reaches_the_same_server_by_another_way_is_steered(tmp_path):
    with robot() as (url, service):
        itself = msgspec.structs.replace(service.health(), server="a1b2")
        service.health = lambda: itself
        with (
            console(tmp_path, robot=url) as served,
            FakeActor(tmp_path / "run", robot=OTHER, server="a1b2") as actor,
            served.page() as page,
        ):
            page.hear("step", lambda step: step["session"] == actor.session)
            page.hear("state", lambda state: state["robot"] and state["other_robot"] is None)
            page.steer()
            actor.wait_for(TeleopInput)
