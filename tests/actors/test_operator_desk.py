import pytest

from actors.episode_labels import VETO_S
from actors.operator_desk import OperatorDesk
from serl_core.clock import ManualClock
from serl_core.operator.messages import (
    Label,
    Pause,
    Picture,
    PictureRequest,
    Recover,
    Resume,
    ResumeRobot,
    StepReport,
    Veto,
)
from tests.actors.fake_console import teleop

PICTURE = Picture(name="wrist", stamp_s=0.0, jpeg=b"j")


class Everybody:
    """All who look on; keeps what they are told."""

    def __init__(self):
        self.is_watched = True
        self.told = []

    def tell(self, message):
        self.told.append(message)

    @property
    def notices(self):
        return [message.text for message in self.told if hasattr(message, "text")]

    @property
    def reports(self):
        return [message for message in self.told if isinstance(message, StepReport)]


class Rig:
    def __init__(self, **options):
        self.clock = ManualClock(100.0)
        self.freed, self.denied = [], []
        self.desk = OperatorDesk(
            now=self.clock,
            free=self.freed.append,
            deny=lambda veto: self.denied.append(veto.episode),
            picture=lambda request: PICTURE if request.name == "wrist" else None,
            **options,
        )
        self.desk.listeners = self.everybody = Everybody()
        self.desk.can_steer = True

    def say(self, message):
        return [answer.text for answer in self.desk.receive(message, self.clock())]


@pytest.fixture
def rig():
    return Rig()


def test_a_pause_is_told_to_all_and_anyone_ends_it(rig):
    rig.say(Pause(operator="ann"))
    rig.say(Pause(operator="bob"))
    assert rig.desk.is_paused
    rig.say(Resume(operator="bob"))
    assert not rig.desk.is_paused
    assert rig.everybody.notices == ["paused by ann", "resumed by bob: a new episode begins"]


def test_there_is_nothing_to_resume_without_a_pause(rig):
    assert rig.say(Resume(operator="ann")) == ["ann: the actor is not paused"]


def test_an_engaged_person_who_is_lost_pauses_the_actor(rig):
    rig.say(teleop())
    assert rig.desk.steer().operator == rig.desk.operator == "ann"
    rig.clock.advance(0.3)
    assert rig.desk.steer() is None
    assert (rig.desk.is_paused, rig.desk.operator) == (True, None)
    assert rig.everybody.notices == ["paused: connection to operator ann lost"]


def test_what_was_pushed_before_the_pause_ended_is_no_loss_after_it(rig):
    rig.say(Pause(operator="ann"))
    rig.say(teleop(operator="ann"))
    rig.clock.advance(5.0)
    rig.say(Resume(operator="bob"))
    assert rig.desk.steer() is None
    assert not rig.desk.is_paused


def test_where_no_browser_may_steer_an_engaged_command_says_so(rig):
    rig.desk.can_steer = False
    rig.desk.why_not_steer = "it has two arms"
    assert rig.say(teleop()) == ["this actor takes no commands from a browser: it has two arms"]
    assert rig.say(teleop(engaged=False)) == []
    assert rig.desk.steer() is None


def test_a_label_is_given_once_to_the_running_episode(rig):
    rig.desk.begin_episode("s", 3)
    rig.say(Label(operator="ann", label="success"))
    assert rig.desk.take_label().label == "success"
    assert rig.desk.take_label() is None


@pytest.mark.parametrize("meant", [{"episode": 2}, {"session": "other"}, {"session": "other", "episode": 3}])
def test_a_label_for_another_episode_is_not_used(rig, meant):
    """A click that comes late ended the next episode."""
    rig.desk.begin_episode("s", 3)
    assert rig.say(Label(operator="ann", label="failure", **meant)) == [
        "failure of ann not used: its episode is not running any more"
    ]
    assert rig.desk.take_label() is None


def test_a_label_between_episodes_is_not_used(rig):
    label = Label(operator="ann", label="success", session="s", episode=3)
    assert "not used" in rig.say(label)[0]
    rig.desk.begin_episode("s", 3)
    rig.say(label)
    rig.desk.end_episode()
    assert rig.everybody.notices == ["success of ann not used: the episode ended by itself before"]
    rig.desk.begin_episode("s", 4)
    assert rig.desk.take_label() is None


def test_a_veto_counts_for_one_second_and_for_its_episode(rig):
    rig.desk.claim_success("s", 3)
    assert "too late" in rig.say(Veto(operator="ann", session="s", episode=2))[0]
    rig.clock.advance(VETO_S)
    rig.say(Veto(operator="ann", session="s", episode=3))
    assert rig.denied == [3]
    assert "too late" in rig.say(Veto(operator="bob", session="s", episode=3))[0]
    assert rig.desk.settle("s", 3)
    assert not rig.desk.settle("s", 3)


def test_a_veto_after_that_is_too_late(rig):
    rig.desk.claim_success("s", 3)
    rig.clock.advance(VETO_S + 1e-3)
    assert "correct the episode's label instead" in rig.say(Veto(operator="ann", session="s", episode=3))[0]
    assert not rig.desk.settle("s", 3)
    assert rig.denied == []


def test_the_robot_is_freed_by_whoever_has_its_lease(rig):
    requests = [Recover(operator="ann", cause="reflex"), ResumeRobot(operator="ann")]
    for request in requests:
        rig.say(request)
    assert rig.freed == requests


def test_a_picture_is_answered_where_there_is_one(rig):
    assert rig.desk.receive(PictureRequest(name="wrist"), 0.0) == [PICTURE]
    assert rig.desk.receive(PictureRequest(name="side"), 0.0) == []


@pytest.mark.parametrize("come", [teleop(), Resume(operator="ann")], ids=["a push", "resume"])
def test_a_recorder_waits_for_the_first_person(come):
    rig = Rig(awaits_person=True)
    assert (rig.desk.is_paused, rig.desk.awaits_person) == (True, True)
    rig.say(teleop(engaged=False))
    assert rig.desk.is_paused
    rig.say(come)
    assert (rig.desk.is_paused, rig.desk.awaits_person) == (False, False)


def test_without_a_link_nobody_asks_for_anything():
    desk = OperatorDesk()
    assert (desk.is_watched, desk.is_paused, desk.take_label(), desk.steer()) == (False, False, None, None)
    desk.notify("info", "nobody hears it")
