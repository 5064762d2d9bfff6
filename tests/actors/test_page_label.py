import pytest

from actors.page_label import FRESH_S, PageLabel
from serl_core.clock import ManualClock
from serl_core.operator.messages import Label

PERIOD_S = 0.1  # the page's, and the control loop's


class Rig:
    def __init__(self):
        self.clock = ManualClock(50.0)
        self.label = PageLabel(self.clock)
        self.label.begin("s", 0)

    def say(self, label, session="s", episode=0):
        self.label.receive(Label(operator="ann", label=label, session=session, episode=episode), self.clock())

    def step(self, held=None, **meant):
        """Let a period pass with a button held; return the step's label."""
        if held is not None:
            self.say(held, **meant)
        self.clock.advance(PERIOD_S)
        return self.label(None)


@pytest.fixture
def rig():
    return Rig()


def test_a_frame_gets_the_label_of_the_button_that_is_held(rig):
    said = [rig.step(held) for held in ("failure", "failure", "success", "success", "failure")]
    assert said == [False, False, True, True, False]
    assert (rig.label.positives, rig.label.negatives) == (2, 3)


def test_frames_of_which_nobody_says_anything_get_none(rig):
    assert rig.step() is None
    rig.step("success")
    rig.clock.advance(FRESH_S)
    assert rig.step() is None
    assert (rig.label.positives, rig.label.negatives) == (1, 0)


def test_a_page_that_is_late_once_has_not_let_go(rig):
    rig.step("success")
    assert rig.step() is True
    assert rig.step() is None


def test_a_success_held_since_before_the_episode_counts_from_the_next_press_on(rig):
    """The person has not seen yet that the arm is back at its start; a failure is one there."""
    rig.label.end()
    assert rig.step("success") is None
    rig.label.begin("s", 1)
    assert [rig.step("success", episode=episode) for episode in (0, 1, 1)] == [None] * 3
    rig.clock.advance(FRESH_S)
    assert rig.step("success", episode=1) is True
    rig.label.end()
    rig.step("failure", episode=1)
    rig.label.begin("s", 2)
    assert [rig.step("failure", episode=episode) for episode in (1, 2)] == [None, False]


@pytest.mark.parametrize("meant", [{"session": "other"}, {"episode": 7}])
def test_a_label_for_another_episode_says_nothing(rig, meant):
    assert rig.step("success", **meant) is None
    assert rig.step("discard", **meant) is None
    assert not rig.label.is_discarded


def test_a_label_for_whatever_runs_counts_while_something_does(rig):
    assert rig.step("success", session=None, episode=None) is True
    rig.label.end()
    assert rig.step("failure", session=None, episode=None) is None


def test_nothing_is_labelled_any_more_in_an_episode_that_is_thrown_away(rig):
    rig.step("success")
    assert rig.step("discard") is None
    assert rig.label.is_discarded
    assert rig.step("success") is None
    rig.label.begin("s", 1)
    assert not rig.label.is_discarded
    assert (rig.label.positives, rig.label.negatives) == (0, 0)
