import logging

import msgspec
import numpy as np
import pytest

from actors.intervention import NEVER_S, arbitrate
from actors.teleop.arm_puck import CLOSED, OPEN, ArmPuck
from actors.teleop.interface import TeleopCommand
from actors.teleop.puck import SpaceMouseConfig
from actors.teleop.puck_reading import PuckReading
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.errors import ConfigError
from serl_core.testing.fakes import FakeRobot

RIGHT = np.array([1.0, 0, 0, 0, 0, 0])
BUTTONS = ("LEFT", "MIDDLE", "RIGHT")
NEVER = (-np.inf,) * 3
DEFAULT = SpaceMouseConfig()


class HeldPuck:
    """A device that says what it is told to, to a person's clock."""

    def __init__(self, clock):
        self.clock = clock
        self.reading = PuckReading()
        self.plug()

    def plug(self):
        connection = self.reading.connection + 1
        self.reading = PuckReading(
            is_down=(False,) * 3,
            pressed_s=NEVER,
            buttons=BUTTONS,
            connection=connection,
            opened_s=self.clock(),
            is_connected=True,
        )

    def unplug(self):
        self.reading = PuckReading(connection=self.reading.connection)

    def push(self, deflection=RIGHT):
        self.reading = self.reading._replace(deflection=np.array(deflection), moved_s=self.clock())

    def let_go(self):
        self.push(np.zeros(6))

    def press(self, button, *, holds=False):
        place = BUTTONS.index(button)
        pressed_s, is_down = list(self.reading.pressed_s), [False] * 3
        pressed_s[place], is_down[place] = self.clock(), holds
        self.reading = self.reading._replace(pressed_s=tuple(pressed_s), is_down=tuple(is_down))

    def open(self):
        pass

    def read(self):
        return self.reading

    def close(self):
        pass


class Rig:
    def __init__(self, config=DEFAULT, **options):
        self.clock = ManualClock(100.0)
        self.puck = HeldPuck(self.clock)
        self.state = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
        options = {"has_gripper": True} | options
        self.arm = ArmPuck(self.puck, config, lambda: self.state, now=self.clock, **options)
        self.arm.open()
        self.clock.advance(1.0)  # silent: the puck is at rest
        self.arm.read()

    def gripper_is(self, position):
        self.state = msgspec.structs.replace(self.state, gripper=position)


def test_a_push_engages_and_letting_go_does_not():
    rig = Rig()
    assert not rig.arm.read().is_engaged
    rig.puck.push()
    command = rig.arm.read()
    assert command.is_engaged
    np.testing.assert_allclose(command.twist, [0, -1, 0, 0, 0, 0], atol=1e-12)  # in the axes of a tool that points down
    rig.puck.let_go()
    command = rig.arm.read()
    assert not command.is_engaged
    np.testing.assert_array_equal(command.twist, np.zeros(6))


def test_a_puck_within_the_dead_zone_does_not_engage():
    rig = Rig()
    rig.puck.push(0.09 * np.ones(6))
    assert not rig.arm.read().is_engaged


def test_motion_older_than_200_ms_is_no_intervention_and_is_warned_of_once(caplog):
    """Unplugged at full deflection, or a thread that hangs: the last report stood for ever."""
    rig = Rig()
    rig.puck.push()
    rig.clock.advance(0.199)
    assert rig.arm.read().is_engaged
    rig.clock.advance(0.002)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            command = rig.arm.read()
            assert not command.is_engaged
            assert command.is_lost
            np.testing.assert_array_equal(command.twist, np.zeros(6))
    assert [record.getMessage() for record in caplog.records] == [
        "SpaceMouse: pushed, then silent for 0.2 s: nobody intervenes",
        "SpaceMouse: lost while it was pushed; the arm holds until it is back and let go once",
    ]
    rig.puck.push()
    command = rig.arm.read()
    assert command.is_engaged
    assert not command.is_lost


def test_a_device_unplugged_while_pushed_is_lost_until_it_was_seen_at_rest():
    rig = Rig()
    rig.puck.push()
    rig.arm.read()
    rig.puck.unplug()
    assert rig.arm.read().is_lost
    rig.clock.advance(5.0)
    assert rig.arm.read().is_lost
    rig.puck.plug()
    rig.puck.push()  # it is held as it was
    assert rig.arm.read().is_lost
    rig.puck.let_go()
    assert not rig.arm.read().is_lost
    rig.puck.push()
    assert rig.arm.read().is_engaged


def test_a_device_unplugged_at_rest_is_not_lost():
    rig = Rig()
    rig.puck.push()
    rig.arm.read()
    rig.puck.let_go()
    rig.arm.read()
    rig.puck.unplug()
    assert not rig.arm.read().is_lost


def test_a_puck_at_rest_may_be_silent(caplog):
    rig = Rig()
    rig.puck.let_go()
    rig.clock.advance(60.0)
    with caplog.at_level(logging.WARNING):
        assert not rig.arm.read().is_engaged
    assert not caplog.records


def test_an_unplugged_device_is_no_intervention_and_holds_as_one_let_go():
    rig = Rig()
    rig.puck.push()
    rig.arm.read()
    rig.puck.unplug()
    command = rig.arm.read()
    assert (command.is_engaged, command.hands_back) == (False, False)
    np.testing.assert_array_equal(command.twist, np.zeros(6))


def test_a_device_plugged_in_again_must_be_at_rest_before_it_counts():
    rig = Rig()
    rig.puck.unplug()
    rig.arm.read()
    rig.puck.plug()
    assert not rig.arm.read().is_engaged  # silent so far, but it has had no time to say anything
    for _ in range(10):
        rig.puck.push()
        assert not rig.arm.read().is_engaged
        rig.clock.advance(0.1)
    rig.puck.let_go()
    assert not rig.arm.read().is_engaged
    rig.puck.push()
    assert rig.arm.read().is_engaged


def test_a_device_that_stays_silent_after_it_was_plugged_in_is_at_rest():
    rig = Rig()
    rig.puck.plug()
    rig.clock.advance(0.3)
    assert not rig.arm.read().is_engaged
    rig.puck.push()
    assert rig.arm.read().is_engaged


def test_the_hand_back_button_hands_back_once_pressed_and_while_held():
    rig = Rig()
    rig.puck.press("RIGHT")
    assert rig.arm.read().hands_back
    assert not rig.arm.read().hands_back
    rig.puck.press("RIGHT", holds=True)
    assert [rig.arm.read().hands_back for _ in range(3)] == [True] * 3


def test_any_number_of_buttons_can_have_a_use():
    rig = Rig(SpaceMouseConfig(gripper_buttons=("LEFT", "MIDDLE"), hand_back_buttons=()))
    rig.puck.press("MIDDLE")
    assert rig.arm.read().gripper == CLOSED
    rig.clock.advance(0.1)
    rig.puck.press("LEFT")
    assert rig.arm.read().gripper == OPEN
    rig.puck.press("RIGHT")
    assert not rig.arm.read().hands_back


def test_a_press_moves_the_gripper_and_engages_though_the_puck_is_at_rest():
    rig = Rig()
    rig.puck.press("LEFT")
    command = rig.arm.read()
    assert (command.is_engaged, command.gripper) == (True, CLOSED)
    rig.clock.advance(0.1)
    command = rig.arm.read()  # the arbitration holds
    assert (command.is_engaged, command.gripper) == (False, CLOSED)
    rig.puck.press("LEFT")
    assert rig.arm.read().gripper == OPEN


@pytest.mark.parametrize(("measured", "wanted"), [(0.0, CLOSED), (0.75, CLOSED), (0.95, OPEN)])
def test_taking_over_never_opens_a_gripper_that_may_hold_something(measured, wanted):
    rig = Rig()
    rig.gripper_is(measured)
    rig.puck.push()
    assert rig.arm.read().gripper == wanted


def test_the_gripper_keeps_the_person_s_wish_until_the_policy_is_back():
    rig = Rig()
    rig.gripper_is(0.3)
    rig.puck.press("LEFT")
    for _ in range(8):
        rig.puck.push()
        assert rig.arm.read().gripper == OPEN  # measured half way all the time
        rig.clock.advance(0.1)
    rig.puck.let_go()
    rig.clock.advance(0.6)
    rig.puck.push()
    assert rig.arm.read().gripper == CLOSED


def test_handing_back_gives_the_gripper_back_at_once():
    rig = Rig()
    rig.gripper_is(0.3)
    rig.puck.press("LEFT")
    assert rig.arm.read().gripper == OPEN
    rig.clock.advance(0.1)
    rig.puck.press("RIGHT")
    rig.arm.read()
    rig.puck.push()
    assert rig.arm.read().gripper == CLOSED


def test_without_a_gripper_its_button_does_nothing():
    rig = Rig(has_gripper=False)
    rig.puck.press("LEFT")
    assert not rig.arm.read().is_engaged


def test_a_person_who_demonstrates_is_engaged_all_the_time():
    rig = Rig(is_demonstrating=True)
    assert rig.arm.read().is_engaged
    rig.puck.press("LEFT")
    assert rig.arm.read().gripper == CLOSED
    for _ in range(20):
        rig.clock.advance(0.1)
        assert rig.arm.read().gripper == CLOSED
    rig.puck.unplug()
    command = rig.arm.read()
    assert (command.is_engaged, command.gripper) == (True, CLOSED)
    np.testing.assert_array_equal(command.twist, np.zeros(6))


def test_a_person_who_lets_go_keeps_control_for_half_a_second_of_steps():
    rig, last_engaged_s, policy = Rig(), NEVER_S, np.full(6, 0.25)
    interventions = []
    for step in range(7):
        if step == 0:
            rig.puck.push()
        else:
            rig.puck.let_go()
        command = rig.arm.read()
        wish = TeleopCommand(command.twist, command.is_engaged, command.hands_back)
        choice = arbitrate(policy, wish, rig.clock(), last_engaged_s)
        last_engaged_s = choice.last_engaged_s
        interventions.append(choice.is_intervention)
        rig.clock.advance(0.1)
    assert interventions == [True] * 5 + [False] * 2


@pytest.mark.parametrize(
    "config",
    [SpaceMouseConfig(gripper_buttons=("TOP",)), SpaceMouseConfig(hand_back_buttons=("TOP",))],
)
def test_a_button_that_the_device_lacks_is_refused_before_anything_moves(config):
    with pytest.raises(ConfigError, match="no button 'TOP'; its buttons are LEFT, MIDDLE, RIGHT"):
        Rig(config)


def test_a_device_without_buttons_is_warned_of_where_there_is_a_gripper(caplog):
    clock = ManualClock()
    puck = HeldPuck(clock)
    puck.reading = PuckReading(connection=1, is_connected=True)
    with caplog.at_level(logging.WARNING):
        ArmPuck(puck, SpaceMouseConfig(), lambda: None, has_gripper=True, now=clock).open()
    assert "no button for the gripper" in caplog.text


def test_the_age_counts_from_the_newest_word_of_puck_or_button():
    rig = Rig()
    assert rig.arm.age_s() is None
    rig.puck.push()
    rig.clock.advance(0.3)
    assert rig.arm.age_s() == pytest.approx(0.3)
    rig.puck.press("LEFT")
    rig.clock.advance(0.1)
    assert rig.arm.age_s() == pytest.approx(0.1)
