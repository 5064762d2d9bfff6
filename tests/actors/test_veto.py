import pytest

from actors.operator_desk import VETO_S
from actors.veto import GRACE_S, VetoWindow
from serl_core.operator.messages import Veto
from serl_core.testing.episodes import make_episode
from serl_core.types import EndReason
from tests.actors.test_operator_desk import Rig as DeskRig


class Rig(DeskRig):
    def __init__(self):
        super().__init__()
        self.sent = []
        self.has_room = True
        self.window = VetoWindow(self.sent.append, self.desk, has_room=lambda: self.has_room, now=self.clock)

    def put(self, episode, *, is_claimed=True):
        """Pass on an episode's steps; its end may be vetoed."""
        *steps, end = make_episode(session="s", episode=episode, first_sequence=5 * episode, end=EndReason.SUCCESS)
        for transition in steps:
            self.window.put(transition)
        until_s = self.desk.claim_success("s", episode) if is_claimed else None
        self.window.put(end._replace(reward=1.0, discount=0.0), veto_until_s=until_s)

    def veto(self, episode):
        self.say(Veto(operator="ann", session="s", episode=episode))

    def sequences(self):
        return [transition.provenance.sequence for transition in self.sent]


@pytest.fixture
def rig():
    return Rig()


def test_what_nobody_may_veto_goes_on_at_once(rig):
    rig.put(0, is_claimed=False)
    assert rig.sequences() == [0, 1, 2, 3, 4]


def test_a_success_waits_for_its_second_and_what_follows_waits_behind_it(rig):
    rig.put(0)
    rig.put(1, is_claimed=False)
    assert rig.sequences() == [0, 1, 2, 3]
    assert len(rig.window) == 6
    rig.clock.advance(VETO_S)
    rig.window.pump()
    assert len(rig.sent) == 4
    rig.clock.advance(GRACE_S)
    rig.window.pump()
    assert rig.sequences() == list(range(10))
    assert rig.sent[4].end is EndReason.SUCCESS


def test_a_vetoed_success_pays_nothing_and_is_no_true_end(rig):
    """Its value goes on: the arm was taken away before the task was done."""
    rig.put(0)
    rig.clock.advance(0.9)
    rig.veto(0)
    rig.clock.advance(1.0)
    rig.window.pump()
    vetoed = rig.sent[-1]
    assert (vetoed.reward, vetoed.discount, vetoed.end) == (0.0, 1.0, EndReason.OPERATOR_STOP)
    assert vetoed.end.is_truncation
    assert rig.denied == [True]


def test_each_of_two_successes_in_a_second_has_its_own_veto(rig):
    rig.put(0)
    rig.clock.advance(0.5)
    rig.put(1)
    rig.veto(0)
    rig.veto(1)
    rig.clock.advance(1.1)
    rig.window.pump()
    assert [transition.end for transition in (rig.sent[4], rig.sent[9])] == [EndReason.OPERATOR_STOP] * 2


def test_what_has_no_room_waits(rig):
    rig.has_room = False
    rig.put(0, is_claimed=False)
    assert rig.sent == []
    rig.has_room = True
    rig.window.pump()
    assert rig.sequences() == [0, 1, 2, 3, 4]


def test_at_the_end_all_goes_on(rig):
    rig.put(0)
    rig.window.flush()
    assert rig.sequences() == [0, 1, 2, 3, 4]
    assert len(rig.window) == 0


def test_what_is_lost_at_the_end_is_told(rig, caplog):
    rig.has_room = False
    rig.put(0, is_claimed=False)
    rig.window.flush()
    assert "5 transitions are lost" in caplog.text
