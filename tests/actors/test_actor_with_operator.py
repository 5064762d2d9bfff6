"""The actor's loop with somebody at its operator link; time is what the tests say."""

import json

import numpy as np
import pytest

from actors.actor import ActorLoop
from actors.operator_desk import OperatorDesk
from actors.step_reports import StepReports
from actors.teleop.browser import BrowserTeleop, CombinedTeleop
from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock
from serl_core.operator.messages import Control, Label, Pause, Resume
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason
from tests.actors.fake_console import PUSH, teleop
from tests.actors.fakes import ListedTeleop, nothing, open_env, towards_target
from tests.actors.test_operator_desk import Everybody


class Rig:
    """A loop on the kinematic arm. People act `before` a step with the number that it has."""

    def __init__(self, act=nothing, *, commands=(), is_lockstep=True, sleep=None, **changes):
        self.clock = ManualClock(100.0)
        self.robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=is_lockstep)
        self.desk = OperatorDesk(now=self.clock)
        self.desk.listeners = self.everybody = Everybody()
        self.before = {}
        self.sleeps = []
        self._act = act
        self._sleep = sleep or (lambda _: pytest.fail("it waits, and nobody ends that"))
        env = open_env(self.robot, **changes)
        browser = BrowserTeleop(env.action_spec, self.desk, lambda: env.state)
        device = CombinedTeleop(browser, ListedTeleop(commands), lambda: env.state)
        device.open()
        self.loop = ActorLoop(
            env,
            self._acted,
            device,
            session="s",
            sleep=self._slept,
            desk=self.desk,
            reports=StepReports(self.desk, env, "s", now=self.clock),
        )

    def say(self, message):
        return list(self.desk.receive(message, self.clock()))

    def step(self):
        transition = self.loop.step()
        self.clock.advance(0.1)
        return transition

    def sent(self):
        return [call for call in self.robot.calls if call == "step"]

    def _acted(self, observation):
        for people in self.before.pop(self.loop.sequence, ()):
            people()
        return self._act(observation)

    def _slept(self, duration_s):
        self.sleeps.append(duration_s)
        self.clock.advance(duration_s)
        self._sleep(self)


def label(kind, **meant):
    return Label(operator="ann", label=kind, **meant)


# --- steering


def test_a_step_steered_from_the_page_is_stored_as_one_from_a_device():
    rig = Rig()
    rig.say(teleop())
    transition = rig.step()
    assert transition.is_intervention
    np.testing.assert_allclose(transition.action, np.array(PUSH, np.float32))
    (report,) = [report for report in rig.everybody.reports if report.step == 1]
    assert (report.control, report.operator, report.is_intervention) == (Control.HUMAN, "ann", True)
    assert report.action == pytest.approx(PUSH)


def test_who_lets_go_keeps_control_for_five_more_steps():
    rig = Rig()
    rig.say(teleop())
    human = [rig.step().is_intervention]
    for _ in range(6):
        rig.say(teleop(engaged=False))
        human.append(rig.step().is_intervention)
    assert human == [True] * 5 + [False] * 2


def test_when_an_engaged_person_is_lost_the_policy_does_not_go_on():
    """The commands of a frozen tab stop; nothing more is sent but to stay, and the episode is over."""

    def resume(rig):
        assert rig.robot.state().reference_pose == rig.robot.state().tcp_pose
        assert rig.everybody.reports[-1].control is Control.PAUSED
        if len(rig.sleeps) == 5:
            rig.say(Resume(operator="bob"))

    rig = Rig(towards_target, sleep=resume)
    rig.say(teleop())
    before = rig.step()
    rig.clock.advance(0.15)
    after = rig.step()
    assert len(rig.sleeps) == 5
    assert [t.provenance.episode for t in (before, after)] == [0, 1]
    assert (after.provenance.sequence, after.is_intervention) == (1, False)
    assert "paused: connection to operator ann lost" in rig.everybody.notices
    # Two transitions, and between them the one command to stay where the arm was.
    assert (len(rig.sent()), rig.robot.calls.count("hold")) == (2, 1)


# --- pause


def test_a_pause_abandons_the_episode_holds_the_arm_and_makes_no_transition():
    def resume(rig):
        if len(rig.sleeps) == 60:
            rig.say(Resume(operator="ann"))

    rig = Rig(towards_target, sleep=resume)
    rig.step()
    rig.say(Pause(operator="ann"))
    after = rig.step()
    assert (after.provenance.episode, after.provenance.sequence) == (1, 1)
    paused = [report for report in rig.everybody.reports if report.control is Control.PAUSED]
    assert len(paused) == 2  # at once, and after a second
    assert (len(rig.sent()), rig.robot.calls.count("hold")) == (2, 1)


def test_a_pause_that_comes_during_the_reset_counts_before_the_first_step():
    def resume(rig):
        assert rig.sent() == []
        rig.say(Resume(operator="ann"))

    rig = Rig(sleep=resume)
    rig.before[0] = [lambda: rig.say(Pause(operator="ann"))]
    assert rig.step().provenance.sequence == 0
    assert rig.loop.episode == 1


def test_whoever_uses_the_loop_may_do_something_meanwhile():
    rig = Rig(sleep=lambda rig: rig.say(Resume(operator="ann")))
    calls = []
    rig.loop.idle = lambda: calls.append("idle")
    rig.say(Pause(operator="ann"))
    rig.step()
    assert calls == ["idle"]


def test_while_the_robot_is_stopped_or_faulty_the_page_says_so():
    def free(rig):
        if len(rig.sleeps) == 2:
            rig.robot.recover()

    rig = Rig(sleep=free)
    for mode, control in ((Mode.STOPPED, Control.STOPPED), (Mode.FAULT, Control.FAULT)):
        rig.step()
        rig.sleeps.clear()
        rig.robot.fail(mode, "cause")
        rig.step()
        rig.step()
        assert control in {report.control for report in rig.everybody.reports}
        rig.everybody.told.clear()


# --- labels


@pytest.mark.parametrize(
    ("kind", "end", "reward", "discount"),
    [
        ("success", EndReason.SUCCESS, 1.0, 0.0),
        ("failure", EndReason.FAILURE, 0.0, 0.0),
        ("discard", EndReason.OPERATOR_STOP, 0.0, 1.0),
    ],
)
def test_a_label_ends_the_episode_at_the_present_step(kind, end, reward, discount):
    rig = Rig()
    rig.step()
    rig.before[1] = [lambda: rig.say(label(kind, session="s", episode=0))]
    labelled, after = rig.step(), rig.step()
    assert (labelled.end, labelled.reward, labelled.discount) == (end, reward, discount)
    assert (after.provenance.episode, after.end) == (1, EndReason.RUNNING)


def test_a_persons_label_outranks_the_tasks_own_judgement():
    rig = Rig(time_limit_steps=1)
    rig.before[0] = [lambda: rig.say(label("success"))]
    assert rig.step().end is EndReason.SUCCESS


def test_a_fault_outranks_a_label():
    """What the arm reads then is not the policy's doing."""
    rig = Rig()
    rig.step()
    rig.before[1] = [lambda: rig.say(label("success")), lambda: rig.robot.fail(Mode.FAULT, "reflex")]
    assert rig.step().end is EndReason.ROBOT_FAULT


def test_a_success_that_a_person_gave_is_not_vetoed():
    rig = Rig()
    rig.before[0] = [lambda: rig.say(label("success"))]
    rig.step()
    assert rig.loop.veto_until_s is None


def test_a_success_of_the_tasks_own_may_be_vetoed_in_real_time():
    rig = Rig(towards_target, is_lockstep=False)
    transition = rig.step()
    while transition.end is EndReason.RUNNING:
        assert rig.loop.veto_until_s is None
        transition = rig.loop.step()
    assert rig.loop.veto_until_s == pytest.approx(rig.clock() + 1.0)
    assert rig.everybody.reports[-1].may_veto


@pytest.mark.parametrize("is_lockstep", [True, False], ids=["lockstep", "nobody looks on"])
def test_a_success_that_is_the_simulators_truth_or_that_nobody_sees_costs_no_time(is_lockstep):
    rig = Rig(towards_target, is_lockstep=is_lockstep)
    rig.everybody.is_watched = is_lockstep
    transition = rig.step()
    while transition.end is EndReason.RUNNING:
        transition = rig.step()
    assert rig.loop.veto_until_s is None


# --- reports


def test_each_step_and_each_change_of_control_is_told():
    rig = Rig(time_limit_steps=2)
    for _ in range(3):
        rig.step()
    told = [(report.control, report.episode, report.step, report.end) for report in rig.everybody.reports]
    assert told == [
        (Control.RESET, -1, 0, "running"),
        (Control.POLICY, 0, 1, "running"),
        (Control.POLICY, 0, 2, "time_limit"),
        (Control.RESET, 0, 2, "running"),
        (Control.POLICY, 1, 1, "running"),
    ]


def test_a_report_tells_what_the_arm_and_the_policy_do():
    rig = Rig()
    rig.loop.has_adopted(7)
    rig.clock.advance(2.0)
    rig.step()
    rig.step()
    report = rig.everybody.reports[-1]
    assert (report.session, report.policy_version, report.late_ticks) == ("s", 7, 0)
    assert report.policy_age_s == pytest.approx(2.1)
    assert report.loop_hz == pytest.approx(10.0)
    assert report.tcp_pose == rig.robot.state().tcp_pose
    assert (report.success_probability, report.success_threshold) == (None, None)


def test_nothing_is_told_while_nobody_looks_on():
    rig = Rig()
    rig.everybody.is_watched = False
    rig.step()
    assert rig.everybody.told == []


@pytest.mark.parametrize("is_watched", [False, True])
def test_who_looks_on_changes_no_bit_of_the_experience(is_watched):
    """In lockstep the same steps come with a console and without any desk at all."""

    def experience(loop):
        return json.dumps(
            [
                [t.observation.proprio.tolist(), t.action.tolist(), t.reward, t.discount, int(t.end), t.provenance]
                for t in (loop.step() for _ in range(60))
            ]
        )

    rig = Rig(towards_target, is_lockstep=True, time_limit_steps=25)
    rig.everybody.is_watched = is_watched
    env = open_env(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose), time_limit_steps=25)
    alone = ActorLoop(env, towards_target, ListedTeleop(), session="s")
    assert experience(rig.loop) == experience(alone)
