import os
import signal
import subprocess
import sys

import pytest

from actors.episode_labels import VETO_S
from actors.spool import Spool
from actors.veto import GRACE_S, VetoWindow
from serl_core.operator.messages import Veto
from serl_core.testing.episodes import assert_same_transitions, make_episode
from serl_core.transport.codec import decode_transition
from serl_core.types import EndReason
from tests.actors.test_operator_desk import Rig as DeskRig


class Keeper:
    """Keeps what is sent; `offered` is what the learner may have by now."""

    def __init__(self):
        self.kept = {}  # by sequence
        self.held = set()

    def send(self, transition, *, is_held=False):
        sequence = transition.provenance.sequence
        assert sequence not in self.kept
        self.kept[sequence] = transition
        if is_held:
            self.held.add(sequence)

    def release(self, held, amended=None):
        self.held.remove(held.provenance.sequence)
        self.kept[held.provenance.sequence] = amended or held

    @property
    def offered(self):
        return [t for sequence, t in self.kept.items() if sequence < min(self.held, default=len(self.kept))]


class Rig(DeskRig):
    def __init__(self):
        super().__init__()
        self.keeper = Keeper()
        self.window = VetoWindow(self.keeper, self.desk, now=self.clock)

    def put(self, episode, *, is_claimed=True):
        """Pass on an episode's steps; its end may be vetoed."""
        *steps, end = make_episode(session="s", episode=episode, first_sequence=5 * episode, end=EndReason.SUCCESS)
        for transition in steps:
            self.window.put(transition)
        until_s = self.desk.claim_success("s", episode) if is_claimed else None
        self.window.put(end._replace(reward=1.0, discount=0.0), veto_until_s=until_s)

    def veto(self, episode):
        self.say(Veto(operator="ann", session="s", episode=episode))

    def offered(self):
        return [transition.provenance.sequence for transition in self.keeper.offered]


@pytest.fixture
def rig():
    return Rig()


def test_what_nobody_may_veto_goes_on_at_once(rig):
    rig.put(0, is_claimed=False)
    assert rig.offered() == [0, 1, 2, 3, 4]


def test_a_success_is_kept_at_once_and_offered_after_its_second_with_all_that_follows(rig):
    rig.put(0)
    rig.put(1, is_claimed=False)
    assert list(rig.keeper.kept) == list(range(10))
    assert rig.offered() == [0, 1, 2, 3]
    rig.clock.advance(VETO_S)
    rig.window.pump()
    assert rig.offered() == [0, 1, 2, 3]
    rig.clock.advance(GRACE_S)
    rig.window.pump()
    assert rig.offered() == list(range(10))
    assert rig.keeper.kept[4].end is EndReason.SUCCESS


def test_a_vetoed_success_pays_nothing_and_is_no_true_end(rig):
    """Its value goes on: the arm was taken away before the task was done."""
    rig.put(0)
    rig.clock.advance(0.9)
    rig.veto(0)
    rig.window.pump()  # at once: nothing more can come of it
    vetoed = rig.keeper.offered[-1]
    assert vetoed.provenance.sequence == 4
    assert (vetoed.reward, vetoed.discount, vetoed.end) == (0.0, 1.0, EndReason.OPERATOR_STOP)
    assert vetoed.end.is_truncation
    assert rig.denied == [0]


def test_each_of_two_successes_in_a_second_has_its_own_veto(rig):
    rig.put(0)
    rig.clock.advance(0.5)
    rig.put(1)
    rig.veto(1)
    rig.window.pump()
    assert rig.keeper.kept[9].end is EndReason.OPERATOR_STOP
    assert rig.offered() == [0, 1, 2, 3]
    rig.veto(0)
    rig.window.pump()
    assert rig.offered() == list(range(10))
    assert rig.keeper.kept[4].end is EndReason.OPERATOR_STOP


def test_at_the_end_all_goes_on(rig):
    rig.put(0)
    rig.put(1)
    rig.veto(1)
    rig.window.flush()
    assert rig.offered() == list(range(10))
    assert [rig.keeper.kept[sequence].end for sequence in (4, 9)] == [EndReason.SUCCESS, EndReason.OPERATOR_STOP]


ACTOR = """
import sys, time
from pathlib import Path
from actors.operator_desk import OperatorDesk
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from actors.veto import VetoWindow
from serl_core.operator.messages import Veto
from serl_core.testing.episodes import make_episode
from serl_core.transport.in_process import InProcessHub
from serl_core.types import EndReason

desk = OperatorDesk()
window = VetoWindow(SpooledSender(Spool(Path(sys.argv[1]), digest="cafe").open(), InProcessHub().actor()), desk)
for episode, is_vetoed in enumerate([False, sys.argv[2] == "vetoed"]):
    *steps, end = make_episode(session="s", episode=episode, first_sequence=5 * episode, end=EndReason.SUCCESS)
    for step in steps:
        window.put(step)
    window.put(end._replace(reward=1.0, discount=0.0), veto_until_s=desk.claim_success("s", episode))
    if is_vetoed:
        list(desk.receive(Veto(operator="ann", session="s", episode=episode), time.monotonic()))
        window.pump()
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("judged", ["vetoed", "not judged"])
def test_an_actor_killed_while_a_success_is_held_back_has_lost_no_step_and_no_veto(tmp_path, judged):
    """They waited in its memory for the veto's second: kill -9 lost the success and all steps after it (P3)."""
    path = tmp_path / "spool.sqlite"
    actor = subprocess.Popen([sys.executable, "-c", ACTOR, str(path), judged], stdout=subprocess.PIPE, text=True)
    assert actor.stdout.readline() == "held\n"
    os.kill(actor.pid, signal.SIGKILL)
    actor.stdout.close()
    actor.wait()
    made = []
    for episode in range(2):
        *steps, end = make_episode(session="s", episode=episode, first_sequence=5 * episode, end=EndReason.SUCCESS)
        made += [*steps, end._replace(reward=1.0, discount=0.0)]
    if judged == "vetoed":
        made[-1] = made[-1]._replace(reward=0.0, discount=1.0, end=EndReason.OPERATOR_STOP)
    with Spool(path, digest="cafe") as spool:
        assert_same_transitions([decode_transition(row.record) for row in spool.pending(99)], made)
