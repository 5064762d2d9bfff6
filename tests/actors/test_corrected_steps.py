"""Which steps people corrected: the actor's log tells it, so that the console need not have been there."""

import pytest

from tests.actors.fake_console import teleop
from tests.actors.test_actor_with_operator import Rig


def test_only_corrected_steps_are_told_and_each_once():
    rig = Rig()
    rig.step()
    rig.say(teleop())
    rig.step()
    place = rig.robot.state().tcp_pose
    ((step, x_m, y_m),) = rig.loop.take_corrected()
    assert step == 2
    assert (x_m, y_m) == pytest.approx(place[:2], abs=1e-4)
    assert rig.loop.take_corrected() == []
