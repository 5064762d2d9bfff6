import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.intervention import NEVER_S, arbitrate
from actors.teleop.interface import TeleopCommand
from tests.actors.fakes import IDLE, command

POLICY = np.full(6, 0.25, np.float32)


def test_the_policy_acts_when_nobody_is_at_the_device():
    choice = arbitrate(POLICY, IDLE, 10.0, NEVER_S)
    np.testing.assert_array_equal(choice.action, POLICY)
    assert not choice.is_intervention


def test_an_engaged_human_acts():
    choice = arbitrate(POLICY, command(-0.5), 10.0, NEVER_S)
    np.testing.assert_array_equal(choice.action, np.full(6, -0.5))
    assert choice.is_intervention
    assert choice.last_engaged_s == 10.0


def test_a_human_who_centres_the_device_keeps_control_for_half_a_second():
    """Fault 30 of earlier systems: the override ended the moment the puck was centred."""
    commands = [command(0.5)] + [IDLE] * 6
    last_engaged_s, actions, interventions = NEVER_S, [], []
    for k, given_command in enumerate(commands):
        choice = arbitrate(POLICY, given_command, 0.1 * k, last_engaged_s)
        last_engaged_s = choice.last_engaged_s
        actions.append(float(choice.action[0]))
        interventions.append(choice.is_intervention)
    assert interventions == [True] * 5 + [False] * 2
    assert actions == [0.5, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25]


@given(st.floats(0.0, 1e6))
def test_the_hold_is_five_steps_at_any_time_of_the_clock(start_s):
    held = [arbitrate(POLICY, IDLE, start_s + 0.1 * k, start_s).is_intervention for k in range(1, 7)]
    assert held == [True] * 4 + [False] * 2


def test_handing_back_ends_the_hold_at_once_and_for_good():
    choice = arbitrate(POLICY, command(0.0, is_engaged=False, hands_back=True), 10.1, 10.0)
    assert not choice.is_intervention
    np.testing.assert_array_equal(choice.action, POLICY)
    assert not arbitrate(POLICY, IDLE, 10.2, choice.last_engaged_s).is_intervention


def test_handing_back_has_no_effect_while_engaged():
    assert arbitrate(POLICY, command(0.5, hands_back=True), 10.0, NEVER_S).is_intervention


@pytest.mark.parametrize("is_engaged", [True, False])
def test_a_humans_action_is_clipped_to_the_actions_range(is_engaged):
    wild = TeleopCommand(np.array([3.0, -3.0, 0.5, 0, 0, 0]), is_engaged)
    choice = arbitrate(POLICY, wild, 10.0, 9.9)
    np.testing.assert_array_equal(choice.action, [1, -1, 0.5, 0, 0, 0])


def test_arbitration_edits_none_of_its_inputs():
    policy, wild = POLICY.copy(), TeleopCommand(np.full(6, 2.0), is_engaged=True)
    arbitrate(policy, wild, 0.0, NEVER_S)
    np.testing.assert_array_equal(policy, POLICY)
    np.testing.assert_array_equal(wild.action, np.full(6, 2.0))
