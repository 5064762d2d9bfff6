import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.spool import Spool
from actors.spooled_sender import MAX_IN_FLIGHT_BYTES, MAX_OFFERED_BYTES_PER_PUMP, MAX_OFFERED_PER_PUMP, SpooledSender
from serl_core.clock import ManualClock
from serl_core.errors import DataError, TransportError
from serl_core.testing.episodes import STATE_SPEC, assert_same_transitions, make_episode
from serl_core.transport.codec import decode_transition, encode_transition
from serl_core.transport.in_process import InProcessHub
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from serl_core.types import EndReason


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool.sqlite", digest="cafe") as spool:
        yield spool


def hello(session="session"):
    return Hello(actor_id="actor", session=session, spec_digest="cafe")


def is_balanced(spool):
    counts = spool.counters()
    return counts["made"] == counts["acknowledged"] + counts["spooled"] + counts["quarantined"] + counts["dropped"]


def test_what_is_not_acknowledged_stays_in_order(spool):
    steps = make_episode(steps=6)
    for step in steps:
        spool.append(step)
    spool.acknowledge("session", 2)
    assert_same_transitions([decode_transition(row.record) for row in spool.pending(10)], steps[3:])
    assert spool.counters() == {"made": 6, "acknowledged": 3, "spooled": 3, "quarantined": 0, "dropped": 0}


def test_an_acknowledgement_touches_its_own_session_only(spool):
    for session in ("one", "two"):
        for step in make_episode(session=session):
            spool.append(step)
    spool.acknowledge("one", 99)
    assert {row.session for row in spool.pending(99)} == {"two"}


def test_what_has_just_been_made_is_not_read_again_from_the_disk(spool):
    for step in make_episode(steps=3):
        spool.append(step)
    before = spool.pending(9, 1)
    assert [(row.sequence, row.is_from_disk) for row in before] == [(1, False), (2, False)]
    spool.close()
    spool.open()
    assert spool.pending(9, 1) == [row._replace(is_from_disk=True) for row in before]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["append", "acknowledge", "some", "withdraw", "amend", "overflow"]), max_size=40),
    st.integers(0, 3),
)
def test_memory_and_disk_have_the_same_rows_in_the_same_order(tmp_path_factory, deeds, fresh):
    steps = make_episode(steps=60)
    record = encode_transition(steps[0])
    path = tmp_path_factory.mktemp("spool") / "spool.sqlite"
    with pytest.MonkeyPatch.context() as patch, Spool(path, digest="cafe", drops_oldest=True) as spool:
        patch.setattr("actors.spool.MAX_FRESH_BYTES", fresh * len(record) + 9)
        made = 0
        for deed in deeds:
            kept = [row.sequence for row in spool.pending(99)]
            if deed in ("append", "overflow"):
                spool._max_transitions = len(kept) if deed == "overflow" and kept else 99
                spool.append(steps[made])
                made += 1
            elif deed in ("acknowledge", "some") and kept:
                spool.acknowledge("session", kept[len(kept) // 2], 1 if deed == "some" else -1)
            elif deed == "withdraw" and kept:
                spool.withdraw("session", kept[-1], "why not")
            elif deed == "amend" and kept:
                spool.amend(steps[kept[-1]]._replace(reward=0.5))
            on_disk = spool._execute(
                "SELECT place, session, sequence, record FROM transitions ORDER BY place"
            ).fetchall()
            for after in range(made + 2):
                assert [row[:4] for row in spool.pending(99, after)] == [row for row in on_disk if row[0] > after]
                assert [row[:4] for row in spool.pending(2, after)] == [row for row in on_disk if row[0] > after][:2]


def test_to_forget_is_a_transaction_for_several_steps_and_at_once_when_there_is_no_new_one(spool):
    hub = InProcessHub()
    learner = hub.open_learner("cafe")
    sender = SpooledSender(spool, hub.actor())
    sender.connect(hello(), 1.0)
    left = []
    for step in make_episode(steps=9)[:7]:
        sender.send(step)
        sender.pump()
        learner.receive(0.0)
        learner.acknowledge("session", step.provenance.sequence)
        left.append(spool.counters()["spooled"])
    assert left == [1, 2, 3, 1, 2, 3, 4]
    sender.pump()
    assert spool.counters()["spooled"] == 0


def test_earlier_sessions_come_first_after_a_restart(tmp_path):
    path = tmp_path / "spool.sqlite"
    earlier, later = make_episode(session="zz-earlier"), make_episode(session="aa-later")
    with Spool(path, digest="cafe") as spool:
        for step in earlier:
            spool.append(step)
    with Spool(path, digest="cafe") as spool:
        assert spool.counters()["made"] == 5
        for step in later:
            spool.append(step)
        assert_same_transitions([decode_transition(row.record) for row in spool.pending(99)], earlier + later)
        assert is_balanced(spool)


def test_a_full_spool_says_so_and_drops_nothing_in_silence(tmp_path, caplog):
    steps = make_episode(steps=11)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_transitions=10) as spool:
        for step in steps[:10]:
            assert not spool.is_full
            spool.append(step)
        assert spool.is_full
        assert [level for level in ("50 %", "80 %") if caplog.text.count(level) == 1] == ["50 %", "80 %"]
        with pytest.raises(TransportError, match=r"full .10 transitions"):
            spool.append(steps[10])
        assert spool.counters() == {"made": 11, "acknowledged": 0, "spooled": 10, "quarantined": 0, "dropped": 1}
        spool.acknowledge("session", 0)
        assert not spool.is_full


def test_a_spool_that_may_drops_the_oldest_for_the_newest_and_counts_them(tmp_path, caplog):
    steps = make_episode(steps=14)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_transitions=10, drops_oldest=True) as spool:
        for step in steps:
            assert not spool.is_full
            spool.append(step)
        assert [row.sequence for row in spool.pending(99)] == list(range(4, 14))
        assert spool.counters() == {"made": 14, "acknowledged": 0, "spooled": 10, "quarantined": 0, "dropped": 4}
        assert "dropped 4 of the oldest" in caplog.text


def test_what_can_never_be_sent_drops_nothing(tmp_path):
    steps = make_episode(steps=3)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_transitions=2, drops_oldest=True) as spool:
        for step in steps[:2]:
            spool.append(step)
        spool.append(steps[2]._replace(action=np.full(2, np.nan, np.float32)))
        assert spool.counters() == {"made": 3, "acknowledged": 0, "spooled": 2, "quarantined": 1, "dropped": 0}


def test_a_veto_on_what_was_dropped_meanwhile_ends_nobody(tmp_path):
    steps = make_episode(steps=4)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_transitions=2, drops_oldest=True) as spool:
        sender = SpooledSender(spool, Recorder())
        sender.send(steps[0], is_held=True)
        for step in steps[1:]:
            sender.send(step)
        sender.release(steps[0], steps[0]._replace(reward=0.0))
        assert [row.sequence for row in spool.pending(9)] == [2, 3]


def test_a_spool_is_bounded_in_bytes_too(tmp_path):
    steps = make_episode(steps=2)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_bytes=len(encode_transition(steps[0])) + 1) as spool:
        spool.append(steps[0])
        assert not spool.is_full
        spool.append(steps[1])
        assert spool.is_full


def test_a_number_that_is_not_finite_is_kept_in_quarantine_and_the_rest_goes_on(tmp_path):
    """It ended the actor."""
    steps = make_episode(steps=4)
    steps[1] = steps[1]._replace(action=np.full(2, np.nan, np.float32))
    path, hub = tmp_path / "spool.sqlite", InProcessHub()
    learner = hub.open_learner("cafe")
    with Spool(path, digest="cafe") as spool:
        sender = SpooledSender(spool, hub.actor())
        sender.connect(hello(), 1.0)
        for step in steps:
            sender.send(step)
            sender.pump()
        assert_same_transitions(learner.receive(0.0), [steps[0], *steps[2:]])
        learner.acknowledge("session", 3)
        sender.pump()
        assert spool.counters() == {"made": 4, "acknowledged": 3, "spooled": 0, "quarantined": 1, "dropped": 0}
    with Spool(path, digest="cafe") as spool:
        ((session, sequence, reason, record),) = spool.quarantined()
        assert (session, sequence) == ("session", 1)
        assert "not finite" in reason
        assert np.float32(np.nan).tobytes() in record


def test_a_transition_that_the_learner_refuses_is_never_sent_again_and_the_rest_goes_on(spool):
    hub = InProcessHub()
    learner = hub.open_learner("cafe")
    put = learner.inbox.put

    def refuse_the_third(transition, size):
        if transition.provenance.sequence == 2:
            learner.inbox.refuse("session", 2, "no such action")
            return False
        return put(transition, size)

    learner.inbox.put = refuse_the_third
    sender = SpooledSender(spool, hub.actor())
    sender.connect(hello(), 1.0)
    steps = make_episode(steps=6)
    for step in steps:
        sender.send(step)
    for _ in range(3):
        sender.pump()
    assert_same_transitions(learner.receive(0.0), steps[:2] + steps[3:])
    assert [(row.sequence, row.reason) for row in spool.quarantined()] == [(2, "no such action")]
    assert spool.counters()["spooled"] == 5
    assert is_balanced(spool)


def test_what_the_disk_has_changed_goes_into_quarantine(spool):
    """It would have been sent again for ever."""
    for step in make_episode(steps=3):
        spool.append(step)
    spool._execute("UPDATE transitions SET record = zeroblob(100) WHERE sequence = 1")
    spool.close()  # memory has what was made since it was opened
    spool.open()
    sender = SpooledSender(spool, link := Recorder())
    sender.pump()
    assert link.offers == [[0, 2]]
    assert [(row.sequence, row.reason) for row in spool.quarantined()] == [(1, "the disk has changed it")]


def test_the_quarantine_is_bounded(spool, monkeypatch):
    monkeypatch.setattr("actors.spool.MAX_QUARANTINED", 2)
    for step in make_episode(steps=3):
        spool.quarantine(step, "why not")
    assert spool.counters() == {"made": 3, "acknowledged": 0, "spooled": 0, "quarantined": 2, "dropped": 1}


def test_an_actor_whose_first_transition_is_not_of_the_task_ends_and_a_later_one_is_kept_aside(tmp_path):
    steps = make_episode(steps=3)
    odd = steps[1]._replace(action=np.zeros(3, np.float32))
    with Spool(tmp_path / "one", digest="cafe") as spool:
        sender = SpooledSender(spool, Recorder(), spec=STATE_SPEC)
        with pytest.raises(TransportError, match=r"action has shape \[3\], the task's is \[2\]"):
            sender.send(odd)
        assert len(spool.quarantined()) == 1
    with Spool(tmp_path / "two", digest="cafe") as spool:
        sender = SpooledSender(spool, Recorder(), spec=STATE_SPEC)
        sender.send(steps[0])
        sender.send(odd)
        sender.send(steps[2])
        assert spool.counters() == {"made": 3, "acknowledged": 0, "spooled": 2, "quarantined": 1, "dropped": 0}


def test_what_is_under_way_is_offered_again_ever_more_rarely_until_there_is_progress(spool):
    """On a slow line all of it was sent each second, and hardly any of it arrived."""
    hub, clock = InProcessHub(), ManualClock()
    learner = hub.open_learner("cafe")
    sender = SpooledSender(spool, hub.actor(), clock=clock)
    sender.connect(hello(), 1.0)
    put, learner.inbox.put = learner.inbox.put, lambda *_: False
    for step in make_episode(steps=2):
        sender.send(step)
    offered_s = []
    for tick in range(400):
        before = sender.counters()["sent"]
        learner.report(tick, tick)
        sender.pump()
        if sender.counters()["sent"] > before:
            offered_s.append(clock())
        clock.advance(0.1)
    assert np.diff(offered_s) == pytest.approx([1, 2, 4, 8, 16], abs=0.25)
    learner.inbox.put = put
    clock.advance(17.0)
    learner.report(400, 400)
    sender.pump()
    assert len(learner.receive(0.0)) == 2


def test_a_file_that_is_no_spool_is_named(tmp_path):
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(DataError, match=r"spool\.sqlite cannot be used"):
        Spool(path, digest="cafe").open()


def test_two_actors_cannot_share_a_spool(spool, tmp_path):
    with pytest.raises(DataError, match="stop the other actor"):
        Spool(tmp_path / "spool.sqlite", digest="cafe").open()


WRITER = """
import sys
from pathlib import Path
from actors.spool import Spool
from serl_core.testing.episodes import make_episode

spool = Spool(Path(sys.argv[1]), digest="cafe").open()
for step in make_episode(steps=10_000):
    spool.append(step)
    print(step.provenance.sequence, flush=True)
"""


def test_a_killed_actor_has_lost_nothing_that_it_kept(tmp_path):
    path = tmp_path / "spool.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for _ in range(100):
        writer.stdout.readline()
    writer.kill()
    kept = 100 + len(writer.stdout.read().splitlines())
    writer.stdout.close()
    writer.wait()
    with Spool(path, digest="cafe") as spool:
        sequences = [row.sequence for row in spool.pending(20_000)]
        assert sequences == list(range(len(sequences)))
        assert len(sequences) - kept in (0, 1)


def test_what_is_held_back_is_kept_and_offered_with_all_after_it_when_it_is_released(spool):
    steps = make_episode(steps=6)
    sender = SpooledSender(spool, link := Recorder())
    for step in steps:
        sender.send(step, is_held=step.provenance.sequence in (2, 4))
    sender.pump()
    assert link.offers == [[0, 1]]
    assert (spool.counters()["spooled"], sender.unreceived) == (6, 6)
    sender.release(steps[4])
    sender.pump()
    assert link.offers == [[0, 1]]
    sender.release(steps[2])
    sender.pump()
    assert link.offers == [[0, 1], [2, 3, 4, 5]]


def test_what_is_amended_takes_the_place_of_the_former_on_the_disk(spool, tmp_path):
    steps = make_episode(steps=3)
    sender = SpooledSender(spool, Recorder())
    for step in steps:
        sender.send(step, is_held=step is steps[1])
    amended = steps[1]._replace(reward=0.0, discount=1.0, end=EndReason.OPERATOR_STOP)
    sender.release(steps[1], amended)
    spool.close()
    with Spool(tmp_path / "spool.sqlite", digest="cafe") as spool:
        rows = spool.pending(9)
        assert_same_transitions([decode_transition(row.record) for row in rows], [steps[0], amended, steps[2]])
        assert is_balanced(spool)


def test_an_amendment_counts_with_the_bytes_that_it_has(tmp_path):
    (step,) = make_episode(steps=1)
    with Spool(tmp_path / "spool.sqlite", digest="cafe", max_bytes=len(encode_transition(step)) + 1) as spool:
        spool.append(step)
        assert not spool.is_full
        picture = {"wrist": np.zeros((4, 4, 3), np.uint8)}
        spool.amend(step._replace(observation=step.observation._replace(images=picture)))
        assert spool.is_full


def test_there_is_nothing_to_amend_once_it_is_acknowledged(spool):
    (step,) = make_episode(steps=1)
    spool.append(step)
    spool.acknowledge("session", 0)
    with pytest.raises(DataError, match="no transition 0 of session session"):
        spool.amend(step)


class Recorder:
    """An ActorLink that notes what it is offered."""

    def __init__(self):
        self.offers = []

    def offer_records(self, session, records, *, after):
        self.offers.append([number for number, _ in records])

    def poll(self, timeout_s=0.0):
        return None


def test_a_tick_offers_a_bounded_part_of_a_backlog_and_each_step_once(spool):
    for step in make_episode(steps=2 * MAX_OFFERED_PER_PUMP + 1):
        spool.append(step)
    link = Recorder()
    sender = SpooledSender(spool, link)
    for _ in range(5):
        sender.pump()
    assert [len(offer) for offer in link.offers] == [MAX_OFFERED_PER_PUMP, MAX_OFFERED_PER_PUMP, 1]
    assert sum(link.offers, start=[]) == list(range(2 * MAX_OFFERED_PER_PUMP + 1))  # noqa: RUF017


def test_a_tick_spends_no_more_on_large_steps(spool):
    """Eight actors that offered 1 MiB in a tick kept each other from theirs."""
    large = replace(STATE_SPEC, image_shapes={"wrist": (100, 100, 3)})
    for step in make_episode(large, steps=12):
        spool.append(step)
    link = Recorder()
    sender = SpooledSender(spool, link)
    size = len(spool.pending(1)[0].record)
    at_once = -(-MAX_OFFERED_BYTES_PER_PUMP // size)
    for _ in range(4):
        sender.pump()
    assert 1 < at_once < 6
    assert {len(offer) for offer in link.offers[:2]} == {at_once}
    assert sum(link.offers, start=[]) == list(range(12))  # noqa: RUF017


def test_the_learner_has_the_end_of_an_episode_before_the_disk_has(spool, monkeypatch):
    """Its acknowledgement took as long as the sync: the longest of a hundred."""
    link, order = Recorder(), []
    sender = SpooledSender(spool, link)
    offer, sync = link.offer_records, spool.sync
    monkeypatch.setattr(link, "offer_records", lambda *args, after: (order.append("offer"), offer(*args, after=after)))
    monkeypatch.setattr(spool, "sync", lambda: (order.append("sync"), sync()))
    for step in make_episode(steps=3):
        sender.send(step)
        sender.pump()
        sender.pump()
    assert order == ["offer", "offer", "offer", "sync"]


def test_a_synced_spool_survives_a_power_cut_and_its_log_is_used_again(tmp_path):
    """New blocks for the log took the disk of eight actors and their learner 30 ms at a time."""
    wal = tmp_path / "spool.sqlite-wal"
    with Spool(tmp_path / "spool.sqlite", digest="cafe") as spool:
        sizes = []
        for episode in range(5):
            for step in make_episode(steps=60, episode=episode, first_sequence=60 * episode):
                spool.append(step)
            spool.sync()
            sizes.append(wal.stat().st_size)
            spool.acknowledge("session", 60 * episode + 49)
        assert max(sizes) < 1.5 * sizes[0]
        copies = [shutil.copy(path, tmp_path / f"copy-{path.name}") for path in tmp_path.glob("spool.sqlite*")]
    assert len(copies) == 2
    with Spool(tmp_path / "copy-spool.sqlite", digest="cafe") as copy:
        assert [row.sequence for row in copy.pending(99)] == list(range(290, 300))


def test_what_is_acknowledged_costs_the_disk_next_to_nothing(tmp_path):
    """Debian's SQLite writes zeros over all that is deleted, so each transition was written twice."""
    large = replace(STATE_SPEC, image_shapes={"wrist": (100, 100, 3)})
    with Spool(tmp_path / "spool.sqlite", digest="cafe") as spool:
        for step in make_episode(large, steps=20):
            spool.append(step)
        wal = tmp_path / "spool.sqlite-wal"
        before = wal.stat().st_size
        spool.acknowledge("session", 19)
        assert before > 1_000_000
        assert wal.stat().st_size - before < 0.1 * before


def test_what_is_under_way_is_bounded(spool):
    step = make_episode(steps=1)[0]
    picture = {"wrist": np.zeros((256, 256, 3), np.uint8)}
    for sequence in range(12):
        spool.append(
            step._replace(
                observation=step.observation._replace(images=picture),
                provenance=step.provenance._replace(sequence=sequence),
            )
        )
    link = Recorder()
    sender = SpooledSender(spool, link)
    for _ in range(5):
        sender.pump()
    assert sum(map(len, link.offers)) == MAX_IN_FLIGHT_BYTES // picture["wrist"].nbytes + 1


def test_a_lost_offer_is_repeated_after_a_while(spool):
    hub, clock = InProcessHub(), ManualClock()
    learner = hub.open_learner("cafe")
    sender = SpooledSender(spool, hub.actor(), resend_s=1.0, clock=clock)
    sender.connect(hello(), 1.0)
    put, learner.inbox.put = learner.inbox.put, lambda *_: False
    steps = make_episode()
    for step in steps:
        sender.send(step)
    sender.pump()
    learner.inbox.put = put
    sender.pump()
    assert not learner.receive(0.0)
    clock.advance(1.5)
    learner.report(1, 1)
    sender.pump()
    assert_same_transitions(learner.receive(0.0), steps)


def test_over_a_socket_a_backlog_arrives_whole_while_both_sides_restart(tmp_path):
    steps = make_episode(session="earlier", steps=300)
    path = tmp_path / "spool.sqlite"
    disk = []

    def take_in(learner):
        for step in learner.receive(0.01):
            disk.append(step)
            learner.acknowledge("earlier", step.provenance.sequence)

    with ZmqLearnerLink("cafe") as learner:
        address = learner.address
        with Spool(path, digest="cafe") as spool:
            sender = SpooledSender(spool, link := ZmqActorLink(address))
            sender.connect(hello("earlier"), 10.0)
            for step in steps:
                sender.send(step)
                sender.pump()
                if step.provenance.sequence < 100:
                    take_in(learner)
            link.close()
    with Spool(path, digest="cafe") as spool, ZmqLearnerLink("cafe", port=int(address.rsplit(":", 1)[1])) as learner:
        learner.restore({"earlier": disk[-1].provenance.sequence})
        sender = SpooledSender(spool, link := ZmqActorLink(address))
        sender.connect(hello("later"), 10.0)
        while not sender.drain(0.05):
            take_in(learner)
        link.close()
    assert_same_transitions(disk, steps)


class World:
    """An actor with its spool and a learner with its disk, either of which may restart; offers may get lost."""

    def __init__(self, path):
        self.hub = InProcessHub()
        self.clock = ManualClock()
        self.spool = Spool(path, digest="cafe")
        self.sessions = 0
        self.made, self.disk, self.memory = [], [], []
        self.learner = None
        self.is_cut = False
        self.restart_learner()
        self.restart_actor()

    def restart_learner(self):
        if self.learner is not None:
            self.learner.close()
        self.learner = self.hub.open_learner("cafe")
        self.memory.clear()
        acked = {t.provenance.session: t.provenance.sequence for t in self.disk}
        self.learner.restore(acked)
        put = self.learner.inbox.put
        self.learner.inbox.put = lambda t, size: not self.is_cut and put(t, size)

    def restart_actor(self):
        self.spool.close()
        self.spool.open()
        self.sender = SpooledSender(self.spool, self.hub.actor(), clock=self.clock)
        self.sessions += 1
        self.sequence = 0
        self.sender.connect(hello(f"s{self.sessions}"), 1.0)

    def make(self):
        (step,) = make_episode(session=f"s{self.sessions}", first_sequence=self.sequence, steps=1)
        self.sequence += 1
        self.made.append(step)
        self.sender.send(step)

    def pump(self):
        self.clock.advance(0.4)
        self.sender.pump()

    def receive(self):
        self.memory += self.learner.receive(0.0)

    def cut(self):
        self.is_cut = True

    def mend(self):
        self.is_cut = False

    def log(self):
        self.log_in_silence()
        for step in self.disk:
            self.learner.acknowledge(step.provenance.session, step.provenance.sequence)

    def log_in_silence(self):
        self.disk += self.memory
        self.memory.clear()

    def settle(self):
        self.mend()
        self.log_in_silence()
        self.restart_learner()
        for tick in range(50):
            self.learner.report(tick, tick)
            self.pump()
            self.receive()
            self.log()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["make", "make", "pump", "pump", "receive", "log", "log_in_silence", "cut", "mend"]
            + ["restart_learner", "restart_actor"]
        ),
        max_size=60,
    ),
)
def test_whatever_is_lost_or_restarts_each_transition_is_logged_once_in_order(tmp_path_factory, events):
    """Faults 14 and 16 of earlier systems: a restarted actor's data dropped, duplicates inserted."""
    world = World(tmp_path_factory.mktemp("spool") / "spool.sqlite")
    for event in events:
        getattr(world, event)()
        assert is_balanced(world.spool)
    world.settle()
    for session in range(1, world.sessions + 1):
        of_session = [[t for t in steps if t.provenance.session == f"s{session}"] for steps in (world.disk, world.made)]
        assert_same_transitions(*of_session)
    assert world.spool.counters()["spooled"] == 0
    world.spool.close()


def leave(path, digest, steps=3):
    with Spool(path, digest=digest) as spool:
        for step in make_episode(steps=steps):
            spool.append(step)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("cafe+small-1", r"3 transitions .*encoder small-1 and this machine takes resnet10-2: .*or name another --run"),
        ("beef+small-1", r"3 transitions .*digest beef\+small-1, this one has cafe\+resnet10-2: deliver them"),
    ],
)
def test_leftovers_of_another_encoder_or_task_are_refused_and_stay(tmp_path, found, words):
    """They went to the learner of the new run: of one shape they were mixed in, of another they ended it for good."""
    path = tmp_path / "spool.sqlite"
    leave(path, found)
    with pytest.raises(DataError, match=words):
        Spool(path, digest="cafe+resnet10-2").open()
    with Spool(path, digest=found) as spool:
        assert spool.counters()["spooled"] == 3
        spool.acknowledge("session", 2)
    with Spool(path, digest="cafe+resnet10-2") as spool:  # empty: it may change hands
        spool.append(make_episode()[0])
    with pytest.raises(DataError, match=r"\(1 transitions"):
        Spool(path, digest=found).open()


def test_leftovers_of_nobody_knows_whom_are_refused(tmp_path):
    path = tmp_path / "spool.sqlite"
    leave(path, "cafe")
    database = sqlite3.connect(path)
    database.execute("DELETE FROM owner")
    database.commit()
    database.close()
    with pytest.raises(DataError, match="digest unknown"):
        Spool(path, digest="cafe").open()
