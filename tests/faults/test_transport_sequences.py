"""Row T9: whatever a line does and whoever restarts, each transition is logged once, in order."""

import math
import shutil
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from serl_core.clock import ManualClock
from serl_core.errors import TransportError
from serl_core.testing.episodes import STATE_SPEC, assert_same_transitions, make_episode
from serl_core.transport.actor_side import ActorSide
from serl_core.transport.inbox import Inbox
from serl_core.transport.interface import Hello
from serl_core.transport.learner_side import LearnerSide
from serl_core.transport.zmq_transport import batches
from tests.faults.fault_rows import row

DIGEST = "cafe"
INDEX = st.integers(0, 10**6)
counted = {"schedules": 0, "made": 0, "lost": 0, "doubled": 0, "restarts": 0, "quarantined": 0}


class Line:
    """An ActorLink whose messages wait in lists until somebody delivers, drops or doubles them."""

    def __init__(self, up, down, clock):
        self.up, self.down, self.clock = up, down, clock

    def connect(self, hello, timeout_s):
        self.identity = hello.session.encode()
        self.side = ActorSide(hello)
        return Inbox().status(hello.session)

    def offer(self, transitions, *, after=None):
        raise AssertionError("the sender offers records")

    def offer_records(self, session, records, *, after):
        for before, first, batch in batches(records, after):
            self.side.offer(session, before, first, batch)

    def poll(self, timeout_s=0.0):
        if self.side.refusal:
            raise TransportError(self.side.refusal)
        return self.side.statuses.pop(next(iter(self.side.statuses))) if self.side.statuses else None

    def tick(self):
        self.side.tick(lambda frames: self.up.append([self.identity, *frames]) or True, self.clock())

    def newest_weights(self, than_version):
        return None

    def close(self):
        pass


class World(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        counted["schedules"] += 1
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.up, self.down, self.disk, self.made, self.bad = [], [], [], [], set()
        self.sessions = 0
        self.spool = Spool(self.folder / "spool", digest=DIGEST)
        self.start_learner()
        self.start_actor()

    def teardown(self):
        try:
            self.settle()
        finally:
            self.spool.close()
            shutil.rmtree(self.folder)

    # --- both programs

    def start_learner(self):
        self.inbox = Inbox()
        self.learner = LearnerSide(DIGEST, self.inbox, STATE_SPEC)
        acked = {t.provenance.session: t.provenance.sequence for t in self.disk}
        self.inbox.restore(acked)
        self.memory = []

    def start_actor(self):
        self.spool.open()
        self.sessions += 1
        self.sequence = 0
        self.line = Line(self.up, self.down, self.clock)
        self.sender = SpooledSender(self.spool, self.line, clock=self.clock)
        self.sender.connect(Hello(actor_id="actor", session=f"s{self.sessions}", spec_digest=DIGEST), 1.0)

    def to_learner(self, frames):
        is_cut = self.learner.handle(frames, self.to_actor, self.clock())
        assert not is_cut, "a right actor is never cut off"

    def to_actor(self, frames):
        self.down.append(list(frames))
        return True

    # --- what happens

    @rule(count=st.integers(1, 5), fault=st.sampled_from([None] * 8 + ["nan", "shape"]))
    def make(self, count, fault):
        for step in make_episode(session=f"s{self.sessions}", first_sequence=self.sequence, steps=count):
            if fault is not None and step.provenance.sequence == self.sequence + count - 1:
                wrong = np.full(2, np.nan, np.float32) if fault == "nan" else np.zeros(3, np.float32)
                step = step._replace(action=wrong)
                self.bad.add((step.provenance.session, step.provenance.sequence))
            self.made.append(step)
            self.sender.send(step)
        self.sequence += count
        counted["made"] += count

    @rule(duration_s=st.sampled_from([0.0, 0.3, 0.7, 2.0]))
    def act(self, duration_s):
        self.clock.advance(duration_s)
        self.sender.pump()
        self.line.tick()

    @rule()
    def answer(self):
        self.learner.tick(self.to_actor, self.clock())

    @precondition(lambda self: self.up)
    @rule(index=INDEX, is_last=st.booleans(), is_kept=st.sampled_from([False] * 3 + [True]))
    def deliver_up(self, index, is_last, is_kept):
        """Out of order, and sometimes once more later."""
        index = 0 if is_last else index % len(self.up)
        frames = self.up[index] if is_kept else self.up.pop(index)
        counted["doubled"] += is_kept
        self.to_learner(frames)

    @precondition(lambda self: self.down)
    @rule(index=INDEX, is_first=st.booleans(), is_kept=st.sampled_from([False] * 3 + [True]))
    def deliver_down(self, index, is_first, is_kept):
        index = 0 if is_first else index % len(self.down)
        identity, *frames = self.down[index] if is_kept else self.down.pop(index)
        counted["doubled"] += is_kept
        if identity == self.line.identity:
            self.line.side.handle(frames, lambda _: True, self.clock())

    @precondition(lambda self: self.up or self.down)
    @rule(index=INDEX)
    def lose(self, index):
        messages = self.up if index % 2 and self.up else self.down or self.up
        del messages[index % len(messages)]
        counted["lost"] += 1

    @rule()
    def receive(self):
        self.memory += self.inbox.take(0.0)

    @rule(is_told=st.booleans())
    def log(self, is_told):
        self.memory += self.inbox.take(0.0)
        self.disk += self.memory
        self.memory = []
        if is_told:
            for step in self.disk:
                self.inbox.acknowledge(step.provenance.session, step.provenance.sequence)

    @rule()
    def restart_learner(self):
        counted["restarts"] += 1
        self.start_learner()

    @rule(is_line_lost=st.booleans())
    def restart_actor(self, is_line_lost):
        counted["restarts"] += 1
        self.spool.close()
        if is_line_lost:
            self.up.clear()
        self.start_actor()

    # --- what stays true

    @invariant()
    def nothing_is_logged_twice_nor_out_of_order(self):
        last = {}
        for step in self.disk:
            session, sequence = step.provenance.session, step.provenance.sequence
            assert sequence > last.get(session, -1)
            last[session] = sequence

    @invariant()
    def the_counts_add_up(self):
        counts = self.spool.counters()
        assert counts["made"] == counts["acknowledged"] + counts["spooled"] + counts["quarantined"] + counts["dropped"]
        assert counts["spooled"] == len(self.spool.pending(10**6))
        assert counts["dropped"] == 0

    @invariant()
    def what_is_made_is_on_a_disk(self):
        safe = {step.provenance[:2] for step in self.disk}
        safe |= {(one.session, one.sequence) for one in self.spool.pending(10**6)}
        safe |= {(one.session, one.sequence) for one in self.spool.quarantined()}
        assert {step.provenance[:2] for step in self.made} <= safe

    def settle(self):
        """Let the line be well, and wait."""
        for _ in range(200):
            self.act(2.0)
            while self.up:
                self.to_learner(self.up.pop(0))
            self.log(is_told=True)
            self.answer()
            while self.down:
                self.deliver_down(0, True, False)
            if not self.spool.counters()["spooled"]:
                break
        aside = {(one.session, one.sequence) for one in self.spool.quarantined()}
        counted["quarantined"] += len(aside)
        assert aside == self.bad
        for session in range(1, self.sessions + 1):
            wanted = [
                t for t in self.made if t.provenance.session == f"s{session}" and t.provenance[:2] not in self.bad
            ]
            assert_same_transitions([t for t in self.disk if t.provenance.session == f"s{session}"], wanted)


@row("T9")
def test_each_transition_is_logged_once_in_order_whatever_the_line_does_and_whoever_restarts(seed, observed):
    counted.update(dict.fromkeys(counted, 0))
    plan = settings(
        max_examples=200,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(hypothesis.seed(seed)(World), settings=plan)
    assert counted["lost"] > 100
    assert counted["quarantined"] > 20
    assert math.isfinite(counted["made"])
    observed(
        f"{counted['schedules']} schedules, {counted['made']} transitions: 0 lost, 0 double, {counted['quarantined']} "
        f"in quarantine, with {counted['lost']} messages lost, {counted['doubled']} doubled and {counted['restarts']} "
        "restarts"
    )
