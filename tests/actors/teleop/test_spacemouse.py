"""Devices for one and two arms, through the real libraries down to the C functions of hidapi."""

import time

import numpy as np
import pytest

from actors.actor import ActorLoop
from actors.teleop.puck import OperatorSide, SpaceMouseConfig
from actors.teleop.puck_device import PuckDevice
from actors.teleop.puck_thread import PuckThread
from actors.teleop.spacemouse import make_spacemouse, split_name
from examples.ram_insertion import CONFIG
from serl_core.errors import ConfigError
from serl_core.testing.conformance import check_teleop
from serl_core.testing.fakes import FakeRobot
from serl_core.types import ActionBlock, ActionSpec
from tests.actors.fakes import open_env
from tests.actors.teleop.fake_hidapi import COMPACT_AT_REST, COMPACT_RIGHT, COMPACT_UP, LEFT_DOWN, eventually

STATE = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
ONE_ARM = ActionSpec((ActionBlock("twist", 6), ActionBlock("gripper", 1)))
TWO_ARMS = ActionSpec(
    (
        ActionBlock("left/gripper", 1),
        ActionBlock("left/twist", 6),
        ActionBlock("right/twist", 6),
    )
)
LEFT, RIGHT = "/dev/hidraw1", "/dev/hidraw2"


def state():
    return STATE


@pytest.fixture
def opened():
    """Open a teleop, let its pucks be seen at rest, and close it in the end."""
    devices = []

    def open_teleop(hidapi, spec, states, config):
        teleop = make_spacemouse(spec, config, states)
        devices.append(teleop)
        teleop.open()
        for path in hidapi.opened:
            hidapi.send(path, *COMPACT_AT_REST)
        eventually(lambda: all(arm._puck.read().moved_s > 0 for arm in teleop._arms.values()))
        teleop.read()
        return teleop

    yield open_teleop
    for device in devices:
        device.close()


def pushed(hidapi, teleop, path, *reports):
    """Return the first engaged command while a puck is pushed; it speaks all the time then."""
    commands = []

    def is_engaged():
        hidapi.send(path, *reports)
        commands.append(teleop.read())
        return commands[-1].is_engaged

    eventually(is_engaged)
    return commands[-1]


def test_it_does_what_every_teleop_must(hidapi):
    hidapi.plug(LEFT)
    check_teleop(make_spacemouse(ONE_ARM, SpaceMouseConfig(), {"": state}), ONE_ARM.size)


def test_it_does_what_every_teleop_must_with_two_arms(hidapi):
    hidapi.plug(LEFT)
    hidapi.plug(RIGHT)
    config = SpaceMouseConfig(devices=(LEFT, RIGHT))
    check_teleop(make_spacemouse(TWO_ARMS, config, {"left/": state, "right/": state}), TWO_ARMS.size)


def test_a_push_at_the_device_is_an_action_in_the_tool_s_axes(hidapi, opened):
    hidapi.plug(LEFT)
    config = SpaceMouseConfig(operator=OperatorSide.FRONT)
    teleop = opened(hidapi, ONE_ARM, {"": state}, config)
    assert not teleop.read().is_engaged
    blocks = ONE_ARM.split(pushed(hidapi, teleop, LEFT, *COMPACT_RIGHT).action)
    # To the right of a person who looks at the arm is the base's +y: the -y of a tool that points down.
    np.testing.assert_allclose(blocks["twist"], [0, -1, 0, 0, 0, 0], atol=1e-6)
    assert blocks["gripper"] == 1.0  # open, as it is


def test_each_of_two_devices_moves_its_own_arm(hidapi, opened):
    hidapi.plug(LEFT, serial="S1")
    hidapi.plug(RIGHT, serial="S2")
    config = SpaceMouseConfig(devices=("S1", "S2"))
    teleop = opened(hidapi, TWO_ARMS, {"left/": state, "right/": state}, config)
    blocks = TWO_ARMS.split(pushed(hidapi, teleop, RIGHT, *COMPACT_UP).action)
    np.testing.assert_allclose(blocks["right/twist"], [0, 0, -1, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(blocks["left/twist"], np.zeros(6))
    hidapi.send(LEFT, *LEFT_DOWN)
    eventually(lambda: TWO_ARMS.split(teleop.read().action)["left/gripper"] == -1.0)


def test_when_the_second_device_is_missing_the_first_is_let_go(hidapi):
    hidapi.plug(LEFT)
    pucks = []

    class Watched(PuckThread):
        def close(self):
            pucks.append(self)
            super().close()

    given = [Watched(PuckDevice(LEFT)), Watched(PuckDevice(RIGHT))]
    teleop = make_spacemouse(TWO_ARMS, SpaceMouseConfig(), {"left/": state, "right/": state}, pucks=given)
    with pytest.raises(ConfigError, match="hidraw2: not connected"):
        teleop.open()
    assert given[0] in pucks
    assert not given[0]._thread.is_alive()


def test_an_action_that_no_puck_can_give_is_refused():
    spec = ActionSpec((ActionBlock("twist", 6), ActionBlock("wrench", 3)))
    with pytest.raises(ConfigError, match="cannot give the action's block 'wrench' of 3"):
        make_spacemouse(spec, SpaceMouseConfig(), {"": state})


def test_each_arm_needs_a_device_and_a_state():
    with pytest.raises(ConfigError, match="1 given for 2 arms; name one for each"):
        make_spacemouse(TWO_ARMS, SpaceMouseConfig(), {"left/": state, "right/": state})
    with pytest.raises(ConfigError, match=r"the state of \['left/', 'right/'\] is not known here"):
        make_spacemouse(TWO_ARMS, SpaceMouseConfig(devices=("A", "B")), {"": state})


def test_blocks_are_told_apart_by_name():
    assert split_name("left/twist") == ("left/", "twist")
    assert split_name("twist") == ("", "twist")


def test_a_device_unplugged_while_pushed_holds_the_arm_and_the_policy_waits_until_it_is_back(hidapi, opened):
    """The policy went on after half a second, from wherever the person had been bringing the arm."""

    def replug(duration_s):
        waits.append(env.robot.calls[-1])
        if len(waits) == 1:
            hidapi.plug(LEFT)
        time.sleep(duration_s)

    hidapi.plug(LEFT)
    env, waits = open_env(), []
    teleop = opened(hidapi, CONFIG.action.spec, {"": lambda: STATE}, SpaceMouseConfig())
    loop = ActorLoop(env, lambda _: np.full(6, 0.25, np.float32), teleop, session="a" * 32, sleep=replug)
    eventually(lambda: loop.step().is_intervention or hidapi.send(LEFT, *COMPACT_RIGHT))
    before = loop.sequence
    hidapi.unplug(LEFT)
    eventually(lambda: not teleop.read().is_engaged)
    step = loop.step()
    assert set(waits) == {"hold"}  # nothing was sent while it waited
    assert (step.provenance.sequence, step.provenance.episode) == (before, 1)
    assert not step.is_intervention
    np.testing.assert_array_equal(step.action, np.full(6, 0.25))
