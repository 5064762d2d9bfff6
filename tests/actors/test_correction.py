"""A human who takes over, changes the command, lets go or is lost in the middle of a step in real time."""

import numpy as np
import pytest

from actors.actor import ActorLoop
from actors.operator_desk import OperatorDesk
from actors.teleop.browser import BrowserTeleop
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.operator.messages import Pause, Resume
from serl_core.testing.fakes import FakeRobot
from tests.actors.fake_console import teleop
from tests.actors.fakes import ListedTeleop, command, nothing, open_env

UP, DOWN = (0.0, 0.0, -1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


class Recorded(FakeRobot):
    """An arm that keeps what it was sent in steps, and when."""

    sent = ()
    held_s = ()

    def hold(self):
        self.held_s += (round(self.clock(), 6),)
        super().hold()

    def step(self, pose, reply_after_s, gripper=None):
        self.sent += ((round(self.clock(), 6), pose),)
        return super().step(pose, reply_after_s, gripper)


class Rig:
    """A loop in real time on one clock. `at` has what people do, by the time in s after the first step began."""

    def __init__(self, at=(), *, act=nothing, is_lockstep=False):
        self.clock = ManualClock(100.0)
        self.robot = Recorded(CONFIG.reset.pose, CONFIG.target_pose, clock=self.clock, is_lockstep=is_lockstep)
        self.desk = OperatorDesk(now=self.clock)
        self.at = dict(at)
        self.waits = 0
        env = open_env(self.robot)
        env._sleep = self._slept
        device = BrowserTeleop(env.action_spec, self.desk, lambda: env.state)
        device.open()
        self.loop = ActorLoop(env, act, device, session="s", sleep=self._waited, desk=self.desk)
        self.env = env

    def say(self, message):
        assert not list(self.desk.receive(message, self.clock()))

    def push(self, twist=DOWN, **options):
        self.say(teleop(twist, sent_s=self.clock(), **options))

    def sent(self):
        """Return when each target was sent, and how far below the one before the step began, in parts of an action."""
        start_z = CONFIG.reset.pose[2]
        return [
            (round(at - 100.0, 3), (start_z - pose[2]) / CONFIG.action.translation_m) for at, pose in self.robot.sent
        ]

    def _slept(self, duration_s):
        end_s = self.clock() + duration_s
        for at_s in sorted(self.at):
            if self.clock() <= 100.0 + at_s <= end_s:
                self.clock.advance(100.0 + at_s - self.clock())
                self.at.pop(at_s)(self)
        self.clock.advance(max(end_s - self.clock(), 0.0))

    def _waited(self, duration_s):
        self.clock.advance(duration_s)
        self.waits += 1
        if self.waits == 5:
            self.say(Resume(operator="ann"))


def fixed_start(rig):
    reset = rig.env.reset
    rig.env.reset = lambda **_: reset(options={"start_pose": CONFIG.reset.pose})
    return rig


def stepped(at, **options):
    rig = fixed_start(Rig(at, **options))
    return rig, rig.loop.step()


def test_a_takeover_in_mid_step_reaches_the_arm_within_10_ms_and_makes_the_step_an_intervention():
    rig, transition = stepped({0.035: Rig.push})
    assert rig.sent()[1] == pytest.approx((0.04, 0.6), abs=1e-6)  # of 1, with 0.6 of the step to go
    assert transition.is_intervention
    np.testing.assert_allclose(transition.action, 0.6 * np.array(DOWN), atol=1e-6)
    assert transition.provenance.stamp_s == pytest.approx(100.1)


def test_what_is_stored_is_what_the_arm_was_told_in_the_end():
    rig, transition = stepped({0.015: Rig.push, 0.055: lambda rig: rig.push(UP)})
    assert [at for at, _ in rig.sent()] == [0.0, 0.02, 0.06, 0.08]
    assert transition.action[2] == pytest.approx(rig.sent()[-1][1], abs=1e-6)
    assert transition.action[2] == pytest.approx(0.4 - 0.4, abs=1e-6)  # 0.2 nothing, 0.4 down, 0.4 up


def test_who_lets_go_in_mid_step_leaves_the_arm_on_its_way_and_never_sends_it_back():
    rig, transition = stepped({0.015: Rig.push, 0.055: lambda rig: rig.push((0.0,) * 6, engaged=False)})
    assert [depth for _, depth in rig.sent()] == pytest.approx([0.0, 0.8, 0.4, 0.4], abs=1e-6)
    assert transition.is_intervention


def test_a_step_with_a_human_in_its_first_part_only_is_an_intervention_and_the_policy_acts_in_the_next():
    def hand_back(rig):
        rig.push((0.0,) * 6, engaged=False, hands_back=True)

    rig, first = stepped({0.015: Rig.push, 0.055: hand_back}, act=lambda _: np.full(6, 0.5, np.float32))
    assert first.is_intervention
    assert first.action[0] == pytest.approx(0.6 * 0.5)
    second = rig.loop.step()
    assert not second.is_intervention
    np.testing.assert_array_equal(second.action, np.full(6, 0.5, np.float32))


def test_a_takeover_in_mid_step_keeps_control_of_the_next_steps():
    rig, _ = stepped({0.055: Rig.push, 0.075: lambda rig: rig.push((0.0,) * 6, engaged=False)})
    assert rig.loop.step().is_intervention


def test_who_is_lost_in_mid_step_has_the_arm_held_where_it_is_at_once():
    """It went on to the step's target until the tick: up to 0.1 s more of a motion that nobody wanted."""
    rig, first = stepped({0.01: Rig.push, 0.07: Rig.push})
    assert first.is_intervention
    lost_s = 0.07 + 0.2
    with_pause = rig.loop.step(), rig.loop.step(), rig.loop.step()
    (held_s,) = rig.robot.held_s
    assert held_s - 100.0 <= lost_s + 0.021
    assert rig.waits == 5
    sequences = [transition.provenance.sequence for transition in (first, *with_pause)]
    assert sequences == [0, 1, 2, 3]
    episodes = [transition.provenance.episode for transition in (first, *with_pause)]
    assert episodes == [0, 0, 1, 1]  # the step in which it happened makes no transition


def test_a_pause_in_mid_step_ends_the_step_without_a_transition():
    rig, transition = stepped({0.03: lambda rig: rig.say(Pause(operator="bob"))})
    assert rig.waits == 5
    assert (transition.provenance.sequence, transition.provenance.episode) == (0, 1)
    (held_s,) = rig.robot.held_s
    assert held_s - rig.robot.sent[0][0] == pytest.approx(0.03)


def test_nobody_at_the_device_changes_nothing_of_a_step():
    policy = np.random.default_rng(0).uniform(-1, 1, 6).astype(np.float32)
    _, transition = stepped({}, act=lambda _: policy)
    np.testing.assert_array_equal(transition.action, policy)
    assert not transition.is_intervention


def test_in_lockstep_the_human_is_read_once_a_step_and_no_command_comes_between():
    """What is learned from must not hang on the machine's speed: bit for bit the same experience in each run."""

    class Counted(ListedTeleop):
        reads = 0

        def read(self):
            self.reads += 1
            return super().read()

    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    device = Counted([command(0.25), command(0.5), command(0.75)])
    loop = ActorLoop(open_env(robot), nothing, device, session="s")
    steps = [loop.step() for _ in range(4)]
    assert device.reads == 4
    assert robot.replies_after_s == [0.1] * 4
    for transition, value in zip(steps, (0.25, 0.5, 0.75), strict=False):
        np.testing.assert_array_equal(transition.action, np.full(6, value, np.float32))


@pytest.mark.parametrize("late_s", [0.0, 0.03])
def test_the_policys_ticks_stay_where_they_are(late_s):
    rig = fixed_start(Rig({0.13 + 0.06 * k: Rig.push for k in range(6)}))
    stamps = []
    for _ in range(5):
        rig.clock.advance(late_s)  # a policy that takes its time
        stamps.append(rig.loop.step().provenance.stamp_s)
    assert np.diff(stamps) == pytest.approx(0.1)
    assert rig.loop.late_ticks == 0
