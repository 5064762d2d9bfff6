"""The state machine of an arm's motions, as far as it needs no arm; the rest is in test_franky_backend.py."""

import types

import pytest

from robot_servers.backend import JointLimits
from robot_servers.franky import FrankyBackend
from robot_servers.franky.errand import Errand
from robot_servers.franky.motions import Motions
from robot_servers.limits import Refusal, SafetyLimits

LIMITS = JointLimits(low_rad=(-1.0,) * 7, high_rad=(1.0,) * 7, speed_rad_s=(1.0,) * 7)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fault_refuses_what_waits_for_the_arm_to_rest(is_first):
    """Whoever had asked waited for 10 s, and every other command with it."""
    motions, errand = Motions(None, LIMITS, 0.25), Errand(lambda: None)
    if is_first:
        motions.latch("reflex", "a push")
    motions.when_idle(errand)
    motions.latch("reflex", "a push")
    with pytest.raises(Refusal, match="it is at fault: reflex"):
        errand.wait("the payload")


def test_the_kernel_hears_once_of_a_connection_that_is_lost_wherever_that_is_found():
    """A loss that was found when a motion was started was told to nobody: it came as a silence, a second later."""
    heard = []
    backend = FrankyBackend("127.0.0.1", SafetyLimits())
    backend._reading = types.SimpleNamespace(measured="the last reading")
    motions = Motions(None, LIMITS, 0.25)
    motions.latch("connection_lost", "the motion did not start")
    for _ in range(3):
        assert backend._tick(lambda now_s, measured: heard.append(measured), motions)
    assert heard == ["the last reading"]


def test_a_control_loop_that_died_is_not_recovered():
    """The call waited for that very loop."""
    backend = FrankyBackend("127.0.0.1", SafetyLimits())
    backend._motions = Motions(None, LIMITS, 0.25)
    backend._die()
    with pytest.raises(Refusal, match="start the robot server again"):
        backend.recover()
    assert backend.fault() == "control_loop_died"
