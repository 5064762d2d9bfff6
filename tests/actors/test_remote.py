import contextlib
import json

import numpy as np
import pytest

from actors.actor import ActorLoop, Verdict
from actors.operator_desk import OperatorDesk
from actors.remote import ActorLog, RemoteActor
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from actors.step_reports import StepReports
from examples.ram_insertion import CONFIG
from serl_core.cli.report_vision import VERDICTS
from serl_core.clock import ManualClock
from serl_core.errors import DataError
from serl_core.operator.messages import Control, Pause, Resume, Veto
from serl_core.testing.fakes import FakeRobot
from serl_core.transport.in_process import InProcessHub
from serl_core.transport.interface import Hello, PolicyWeights
from serl_core.types import EndReason
from tests.actors.fakes import ListedTeleop, open_env, towards_target
from tests.actors.test_operator_desk import Everybody


class ConstantPolicy:
    """Its weights are the action."""

    def __init__(self):
        self.value = None
        self.loaded = []

    def load(self, params):
        if not np.isfinite(params["value"]).all():
            raise DataError("policy weights hold numbers that are not finite")
        self.value = np.asarray(params["value"], np.float32)
        self.loaded.append(float(self.value[0]))

    def sample(self, _):
        return self.value


class Rig:
    """An actor and a learner in one process. The actor's sleep lets the learner have its turn."""

    def __init__(
        self, tmp_path, *, max_lead_steps=None, max_transitions=1000, learner_turn=lambda rig: None, is_lockstep=True
    ):
        hub = InProcessHub()
        self.learner = hub.open_learner(CONFIG.digest())
        self.clock = ManualClock()
        self.policy = ConstantPolicy()
        self.received = []
        self.trained = 0
        self.turns = 0
        self._learner_turn = learner_turn
        self.spool = Spool(tmp_path / "spool", digest=CONFIG.digest(), max_transitions=max_transitions).open()
        self.log = ActorLog(tmp_path / "actor.jsonl", self.clock).__enter__()
        link = hub.actor()
        sender = SpooledSender(self.spool, link, clock=self._passing_time)
        sender.connect(Hello(actor_id="a", session="test", spec_digest=CONFIG.digest()), 1.0)
        env = open_env(FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=is_lockstep))
        self.robot = env.robot
        self.desk = OperatorDesk(now=self.clock)
        reports = StepReports(self.desk, env, "test", now=self.clock)
        self.loop = ActorLoop(
            env, self._act, ListedTeleop(), session="test", sleep=self._sleep, desk=self.desk, reports=reports
        )
        self.people = {}  # what they do before a step with this number
        self.actor = RemoteActor(
            self.loop,
            self.policy,
            link,
            sender,
            max_lead_steps=max_lead_steps,
            log=self.log,
            desk=self.desk,
            clock=self.clock,
            sleep=self._sleep,
        )

    def publish(self, version, value=0.1):
        self.learner.publish(PolicyWeights(version, {"value": np.full(6, value, np.float32)}, 0))

    def take(self, *, train=True, is_finished=False, acknowledge=True):
        """Take in what was sent, as the learner does."""
        got = self.learner.receive(0.0)
        self.received += got
        if got and acknowledge:
            self.learner.acknowledge("test", got[-1].provenance.sequence)
        if train:
            self.trained = len(self.received)
        self.learner.report(len(self.received), self.trained, is_finished)

    def close(self):
        self.log.__exit__()
        self.spool.close()

    def _act(self, observation):
        self.people.pop(self.loop.sequence, lambda: None)()
        return self.policy.sample(observation)

    def _passing_time(self):
        """The sender waits for the last acknowledgements until its time is over."""
        self.clock.advance(0.02)
        return self.clock()

    def _sleep(self, duration_s):
        self.clock.advance(duration_s)
        self.turns += 1
        assert self.turns < 1000, "the actor waits for ever"
        self._learner_turn(self)


@pytest.fixture
def make_rig(tmp_path):
    rigs = []

    def make(**options):
        rigs.append(Rig(tmp_path, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def test_the_actor_does_not_act_before_it_has_weights(make_rig):
    def publish_late(rig):
        assert "sim_reset" not in rig.robot.calls
        if rig.turns == 5:
            rig.publish(1)

    rig = make_rig(learner_turn=publish_late)
    rig.actor.run(max_steps=3)
    assert rig.turns == 5
    assert rig.loop.sequence == 3


def test_every_transition_reaches_the_learner_in_order(make_rig):
    rig = make_rig()
    rig.publish(1)
    rig.actor.run(max_steps=7)
    rig.take()
    assert [t.provenance.sequence for t in rig.received] == list(range(7))


def test_in_lockstep_the_actor_waits_when_the_learner_is_behind(make_rig):
    leads = []

    def train_a_little(rig):
        rig.take(train=False)
        leads.append(rig.loop.sequence - rig.trained)
        rig.trained = min(rig.trained + 1, len(rig.received))
        rig.learner.report(len(rig.received), rig.trained)

    rig = make_rig(max_lead_steps=4, learner_turn=train_a_little)
    rig.publish(1)
    rig.actor.run(max_steps=12)
    assert leads
    assert max(leads) == 4


def test_what_is_trained_on_and_not_yet_acknowledged_is_no_lead(make_rig):
    """The lead counted all that was spooled: a learner that acknowledges once a second held the actor up."""
    rig = make_rig(max_lead_steps=4, learner_turn=lambda rig: rig.take(acknowledge=False))
    rig.publish(1)
    rig.actor.run(max_steps=12)
    assert rig.spool.counters()["spooled"] == 12
    assert rig.turns <= 3


def test_what_no_learner_has_received_is_lead(make_rig):
    rig = make_rig(max_lead_steps=4)
    rig.publish(1)
    rig.learner.inbox.put = lambda *_: False  # all is lost on its way
    with pytest.raises(AssertionError, match="waits for ever"):
        rig.actor.run(max_steps=12)
    assert rig.loop.sequence == 4


def test_in_real_time_the_actor_never_waits_for_training(make_rig):
    rig = make_rig(max_lead_steps=None)
    rig.publish(1)
    rig.actor.run(max_steps=50)
    assert rig.turns == 0


def test_only_the_newest_weights_are_adopted_and_stand_in_the_provenance(make_rig):
    """Fault 15 of earlier systems: a slow actor applied old weights in sequence."""
    rig = make_rig()
    for version in (1, 2, 3):
        rig.publish(version, value=version / 10)
    rig.actor.run(max_steps=1)
    assert rig.policy.loaded == pytest.approx([0.3])
    rig.take()
    assert rig.received[0].provenance.policy_version == 3


def test_weights_that_are_not_finite_are_refused_and_the_old_ones_stay(make_rig, caplog):
    rig = make_rig()
    rig.publish(1)
    rig.actor.run(max_steps=1)
    rig.publish(2, value=np.nan)
    rig.actor.run(max_steps=5)
    assert rig.loop.policy_version == 1
    assert caplog.text.count("refused policy version 2, going on with 1") == 1


def test_the_actor_stops_when_the_learner_has_finished(make_rig):
    rig = make_rig(max_lead_steps=5, learner_turn=lambda rig: rig.take(is_finished=rig.loop.sequence >= 10))
    rig.publish(1)
    rig.actor.run()
    assert rig.loop.sequence == 10


def test_a_full_spool_pauses_the_actor_and_loses_nothing(make_rig):
    """The arm stands still during the pause, so no transition may span it: a new episode begins."""
    rig = make_rig(max_transitions=6, learner_turn=lambda rig: rig.take())
    rig.publish(1)
    rig.actor.run(max_steps=9)
    rig.take()
    assert rig.turns >= 1
    assert [t.provenance.sequence for t in rig.received] == list(range(9))
    assert [t.provenance.episode for t in rig.received] == [0] * 6 + [1] * 3


def test_the_lines_count_what_the_classifier_said_once_it_has_judged(make_rig, tmp_path):
    rig = make_rig()
    rig.publish(1)
    step = rig.loop.step

    def step_in_real_time():
        rig.clock.advance(1.0)
        if rig.loop.sequence >= 1:
            rig.loop.verdicts[Verdict(True, False)] += 1
        return step()

    rig.loop.step = step_in_real_time
    rig.actor.run(max_steps=3)
    lines = [json.loads(line) for line in (tmp_path / "actor.jsonl").read_text().splitlines()]
    assert [line.get("classifier_false_positive") for line in lines] == [None, 1, 2]
    names = {name for name in lines[-1] if name.startswith("classifier_")}
    assert names == {f"classifier_{name}" for name in VERDICTS}


@pytest.mark.parametrize("way", ["finished", "stopped"])
def test_a_last_line_counts_what_came_after_the_last_second(make_rig, tmp_path, way):
    """Up to a second of verdicts was in no line, so in no report."""
    rig = make_rig()
    rig.publish(1)
    step = rig.loop.step

    def step_in_real_time():
        rig.clock.advance(0.3)
        if way == "stopped" and rig.loop.sequence == 5:
            raise SystemExit(0)
        rig.loop.verdicts[Verdict(True, True)] += 1
        return step()

    rig.loop.step = step_in_real_time
    with contextlib.suppress(SystemExit):
        rig.actor.run(max_steps=5 if way == "finished" else None)
    lines = [json.loads(line) for line in (tmp_path / "actor.jsonl").read_text().splitlines()]
    assert [line["classifier_true_positive"] for line in lines] == [4, 5]
    assert {line["session"] for line in lines} == {"test"}
    rig.log.write(rig.actor._record)  # no step since
    assert len((tmp_path / "actor.jsonl").read_text().splitlines()) == 2


def test_once_a_second_a_line_tells_how_the_actor_does(make_rig, tmp_path):
    rig = make_rig()
    rig.publish(4)
    step = rig.loop.step

    def step_in_real_time():
        rig.clock.advance(0.1)
        return step()

    rig.loop.step = step_in_real_time
    rig.loop.take_lateness_s = iter([[0.0004, 0.0071239], [], [0.003]]).__next__
    rig.actor.run(max_steps=25)
    lines = [json.loads(line) for line in (tmp_path / "actor.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["loop_hz"] == pytest.approx(10.0, rel=0.2)
    assert {name: lines[0][name] for name in ("kind", "late_ticks", "lead_waits", "policy_version", "dropped")} == {
        "kind": "actor",
        "late_ticks": 0,
        "lead_waits": 0,
        "policy_version": 4,
        "dropped": 0,
    }
    assert [(line["late_ms"], line["late_max_ms"]) for line in lines] == [([0.4, 7.12], 7.12), ([], 0.0), ([3.0], 3.0)]
    assert lines[1]["env_steps"] == lines[1]["made"] > lines[0]["env_steps"]


def to_success(rig):
    """Let the actor run until its first success, with somebody who looks on; return that step's number."""
    rig.desk.listeners = Everybody()
    rig.policy.sample = towards_target
    rig.publish(1)
    ended = []
    step = rig.loop.step

    def step_in_real_time():
        rig.clock.advance(0.1)
        transition = step()
        if transition.end is EndReason.SUCCESS:
            ended.append(transition.provenance.sequence)
        return transition

    rig.loop.step = step_in_real_time
    return ended


@pytest.mark.parametrize("is_vetoed", [False, True])
def test_a_success_reaches_the_spool_as_a_person_has_judged_it(make_rig, is_vetoed):
    rig = make_rig(is_lockstep=False)
    ended = to_success(rig)
    step = rig.loop.step

    def step_and_veto():
        if ended and rig.loop.sequence == ended[0] + 5:
            assert rig.spool.counters()["made"] == rig.loop.sequence  # on the disk: a kill loses none
            rig.take()
            assert [t.provenance.sequence for t in rig.received] == list(range(ended[0]))  # not the success yet
            if is_vetoed:
                list(rig.desk.receive(Veto(operator="ann", session="test", episode=0), rig.clock()))
        return step()

    rig.loop.step = step_and_veto
    rig.actor.run(max_steps=80)
    rig.take()
    assert [t.provenance.sequence for t in rig.received] == list(range(80))
    judged = rig.received[ended[0]]
    expected = (EndReason.OPERATOR_STOP, 0.0, 1.0) if is_vetoed else (EndReason.SUCCESS, 1.0, 0.0)
    assert (judged.end, judged.reward, judged.discount) == expected


def test_what_waits_for_a_veto_is_passed_on_at_the_end(make_rig):
    rig = make_rig(is_lockstep=False)
    ended = to_success(rig)
    step = rig.loop.step

    def step_until_success():
        transition = step()
        if ended:
            rig.actor._is_finished = lambda: True
        return transition

    rig.loop.step = step_until_success
    rig.actor.run()
    rig.take()
    assert rig.received[-1].end is EndReason.SUCCESS


def test_during_a_pause_the_sender_goes_on_and_the_consoles_hear_of_the_wait(make_rig):
    def resume(rig):
        rig.take()
        if rig.turns == 5:
            list(rig.desk.receive(Resume(operator="ann"), rig.clock()))

    rig = make_rig(learner_turn=resume)
    rig.desk.listeners = everybody = Everybody()
    rig.people[3] = lambda: list(rig.desk.receive(Pause(operator="ann"), rig.clock()))
    rig.publish(1)
    rig.actor.run(max_steps=6)
    assert rig.spool.counters()["acknowledged"] >= 3
    assert [report.control for report in everybody.reports][3:6] == [Control.POLICY, Control.PAUSED, Control.RESET]


def test_while_there_are_no_weights_the_consoles_hear_that_the_actor_waits(make_rig):
    rig = make_rig(learner_turn=lambda rig: rig.publish(1) if rig.turns == 3 else None)
    rig.desk.listeners = everybody = Everybody()
    rig.actor.run(max_steps=1)
    assert everybody.reports[0].control is Control.WAITING


def test_a_paused_actor_ends_with_its_learner(make_rig):
    rig = make_rig(learner_turn=lambda rig: rig.take(is_finished=rig.turns > 3))
    rig.people[2] = lambda: list(rig.desk.receive(Pause(operator="ann"), rig.clock()))
    rig.publish(1)
    rig.actor.run()
    assert rig.loop.sequence == 2
