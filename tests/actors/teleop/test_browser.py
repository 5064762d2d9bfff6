import msgspec
import numpy as np
import pytest

from actors.operator_desk import OperatorDesk
from actors.teleop.browser import BrowserTeleop, CombinedTeleop
from actors.teleop.interface import Reporting, TeleopCommand
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.errors import ConfigError
from serl_core.testing.conformance import check_teleop
from serl_core.testing.fakes import FakeRobot
from serl_core.types import ActionBlock, ActionSpec
from tests.actors.fake_console import PUSH, teleop

SPEC = ActionSpec((ActionBlock("twist", 6), ActionBlock("gripper", 1)))
BESIDE = np.full(7, 0.25, np.float32)


class Beside:
    """Another device at which somebody stands, or nobody."""

    def __init__(self, *, is_engaged=False):
        self.is_engaged = is_engaged
        self.calls = []

    def open(self):
        self.calls.append("open")

    def read(self):
        return TeleopCommand(BESIDE, self.is_engaged, hands_back=not self.is_engaged)

    def close(self):
        self.calls.append("close")


class Rig:
    """A desk, and an arm whose clock goes with the person's."""

    def __init__(self, **options):
        self.clock = ManualClock(100.0)
        self.desk = OperatorDesk(now=self.clock)
        self.state = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
        self.browser = BrowserTeleop(SPEC, self.desk, self._state, **options)
        self.browser.open()

    def say(self, **options):
        self.desk.receive(teleop(**options), self.clock())

    def combined(self, beside):
        combined = CombinedTeleop(self.browser, beside, self._state)
        combined.open()
        return combined

    def gripper_is(self, position):
        self.state = msgspec.structs.replace(self.state, gripper=position)

    def _state(self):
        return msgspec.structs.replace(self.state, stamp_s=self.clock())


def test_it_is_a_teleop_whoever_is_at_the_page():
    rig = Rig()
    check_teleop(rig.browser, 7)
    rig.browser.open()
    rig.say(twist=(1.0, -1.0, 0, 0, 0, 1.0), gripper=-1.0)
    check_teleop(rig.browser, 7)
    check_teleop(rig.combined(Beside()), 7)


def test_a_push_engages_and_letting_go_does_not():
    rig = Rig()
    assert not rig.browser.read().is_engaged
    rig.say()
    command = rig.browser.read()
    assert command.is_engaged
    np.testing.assert_allclose(command.action[:6], PUSH)
    rig.say(engaged=False)
    command = rig.browser.read()
    assert (command.is_engaged, command.hands_back) == (False, False)
    np.testing.assert_array_equal(command.action[:6], np.zeros(6))


def test_handing_back_passes_on():
    rig = Rig()
    rig.say(engaged=False, hands_back=True)
    assert rig.browser.read().hands_back


def test_the_gripper_stays_as_it_is_until_somebody_moves_it():
    rig = Rig()
    rig.gripper_is(0.5)  # it may hold something
    rig.say()
    assert rig.browser.read().action[6] == -1.0
    rig.gripper_is(1.0)
    rig.say()
    assert rig.browser.read().action[6] == 1.0


def test_what_the_person_wants_of_the_gripper_lasts_until_their_hold_is_over():
    """It flipped back while it moved: half closed looked like closed, just begun like open."""
    rig = Rig()
    rig.say(gripper=-1.0)
    rig.browser.read()
    rig.say()
    assert rig.browser.read().action[6] == -1.0
    rig.say(engaged=False)
    rig.clock.advance(0.1)
    rig.say(engaged=False)
    assert rig.browser.read().action[6] == -1.0
    rig.clock.advance(0.6)
    rig.browser.read()
    assert rig.browser.read().action[6] == 1.0


def test_a_demonstrator_is_engaged_also_with_still_hands():
    rig = Rig(is_demonstrating=True)
    command = rig.browser.read()
    assert command.is_engaged
    np.testing.assert_array_equal(command.action[:6], np.zeros(6))
    rig.say()
    rig.browser.read()
    rig.clock.advance(0.3)
    rig.browser.read()
    assert rig.desk.is_paused


def test_nobody_steers_a_closed_one():
    rig = Rig()
    rig.browser.close()
    rig.browser.close()
    rig.say()
    assert not rig.browser.read().is_engaged


@pytest.mark.parametrize(
    "blocks",
    [
        (ActionBlock("left/twist", 6), ActionBlock("right/twist", 6)),
        (ActionBlock("twist", 3),),
        (ActionBlock("twist", 6), ActionBlock("wrench", 6)),
    ],
    ids=["two arms", "another size", "another kind"],
)
def test_an_action_that_the_page_cannot_give_is_refused(blocks):
    with pytest.raises(ConfigError, match=r"--teleop browser: the page moves one arm .*choose another --teleop"):
        BrowserTeleop(ActionSpec(blocks), OperatorDesk(), lambda: None)


@pytest.mark.parametrize("is_engaged", [False, True])
def test_the_other_device_counts_while_nobody_is_engaged_at_the_page(is_engaged):
    rig = Rig()
    combined = rig.combined(Beside(is_engaged=is_engaged))
    for say in (None, {"engaged": False}):
        if say is not None:
            rig.say(**say)
        command = combined.read()
        np.testing.assert_array_equal(command.action, BESIDE)
        assert (command.is_engaged, command.hands_back) == (is_engaged, not is_engaged)


def test_the_page_wins_while_it_is_engaged():
    rig = Rig()
    combined = rig.combined(Beside(is_engaged=True))
    rig.say()
    np.testing.assert_allclose(combined.read().action[:6], PUSH)


def test_the_page_keeps_its_hold_against_a_device_that_nobody_touches():
    """The scripted human hands back in every step, which ended a person's hold at once."""
    rig = Rig()
    combined = rig.combined(Beside())
    rig.say()
    combined.read()
    rig.say(engaged=False)
    rig.clock.advance(0.1)
    rig.say(engaged=False)
    command = combined.read()
    assert (command.is_engaged, command.hands_back) == (False, False)
    rig.clock.advance(0.6)
    assert combined.read().hands_back


def test_a_push_at_the_other_device_ends_the_pages_hold():
    rig = Rig()
    beside = Beside()
    combined = rig.combined(beside)
    rig.say()
    combined.read()
    rig.say(engaged=False)
    beside.is_engaged = True
    np.testing.assert_array_equal(combined.read().action, BESIDE)


def test_both_are_opened_and_closed():
    rig, beside = Rig(), Beside()
    rig.combined(beside).close()
    assert beside.calls == ["open", "close"]
    assert not rig.desk.can_steer


class Told(Beside):
    """Another device that reports by itself."""

    def age_s(self):
        return 0.5


def test_the_age_is_that_of_the_newest_report_of_either_device():
    rig = Rig()
    alone, both = rig.combined(Beside()), rig.combined(Told())
    assert (alone.age_s(), both.age_s()) == (None, 0.5)
    rig.say(twist=PUSH)
    rig.clock.advance(0.1)
    assert alone.age_s() == both.age_s() == pytest.approx(0.1)
    rig.clock.advance(1.0)
    assert (alone.age_s(), both.age_s()) == (pytest.approx(1.1), 0.5)
    assert isinstance(both, Reporting)
