"""Rows T1 to T8 and T10: what a line can do to experience and weights. T9 is in test_transport_sequences.py."""

import os
import random
import resource
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from actors.actor import ActorLoop
from actors.remote import ActorLog, RemoteActor
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from examples.ram_insertion import CONFIG
from serl_core.data.frames import decompress
from serl_core.errors import DataError, TransportError
from serl_core.testing.episodes import STATE_SPEC, assert_same_transitions, make_episode
from serl_core.testing.fakes import FakeRobot
from serl_core.testing.faults.proxy import FaultyLine
from serl_core.transport import wire
from serl_core.transport.codec import MAX_TRANSITION_BYTES, MAX_WEIGHTS_BYTES, decode_weights, encode_transition
from serl_core.transport.inbox import Inbox
from serl_core.transport.interface import Hello, PolicyWeights
from serl_core.transport.learner_side import MAX_STRIKES, LearnerSide
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from tests.actors.fakes import ListedTeleop, open_env
from tests.faults.fault_rows import row
from tests.faults.link_rig import StubActor, StubLearner, line_of, logged, process, result_of
from tests.faults.mutations import mutated_frames
from tests.flooded_port import assert_outlives_a_flood

DIGEST = "cafe"
PATIENCE_S = 20.0
FRAMES = 100_000


def hello(session="session", digest=DIGEST):
    return Hello(actor_id="actor", session=session, spec_digest=digest)


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def wait_until(is_so, patience_s=PATIENCE_S):
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it took too long"
        time.sleep(0.002)


def rss_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def percentile(values, q):
    return float(np.percentile(values, q)) if len(values) else 0.0


@pytest.fixture
def learner():
    with ZmqLearnerLink(DIGEST, spec=STATE_SPEC) as learner:
        yield learner


@contextmanager
def connected(learner, session="session"):
    with closing(ZmqActorLink(learner.address)) as actor:
        actor.connect(hello(session), PATIENCE_S)
        yield actor


# --- T1


@pytest.mark.long
@row("T1")
def test_of_100000_bad_frames_none_does_more_than_be_counted(seed, observed):
    inbox = Inbox()
    side = LearnerSide(DIGEST, inbox, STATE_SPEC)
    replies, taken, cut = [], [], 0
    steps = make_episode(session="right", steps=100)
    side.handle([b"right", wire.encode(wire.Greeting(wire.PROTOCOL, "right", "right", DIGEST))], replies.append, 0.0)
    random_ = random.Random(seed)
    before_mb, longest_s = rss_mb(), 0.0
    for number, frames in zip(range(FRAMES), mutated_frames(random_, DIGEST), strict=False):
        start_s = time.thread_time()
        cut += side.handle([b"wrong%d" % (number // 5), *frames], lambda _: True, 0.0)
        longest_s = max(longest_s, time.thread_time() - start_s)
        if number % (FRAMES // 100) == 0:
            step = steps[number // (FRAMES // 100)]
            sequence = step.provenance.sequence
            head = wire.encode(wire.Offer("right", 0, sequence - 1, sequence))
            assert not side.handle([b"right", head, encode_transition(step)], replies.append, 0.0)
            taken += [t for t in inbox.take(0.0) if t.provenance.session == "right"]
    assert_same_transitions(taken, steps)
    rejected = inbox.counters()["rejected"]
    assert rejected > FRAMES // 2
    assert cut > 1000
    assert len(side.peers) <= 64
    grown_mb = rss_mb() - before_mb
    assert grown_mb < 64
    assert longest_s < 1.0
    observed(f"{FRAMES} frames: {rejected} rejected, {cut} connections cut, growth {grown_mb:.0f} MB, 0 crashes")


@row("T1")
def test_a_connection_is_cut_after_three_bad_messages_and_other_actors_lose_nothing(learner, seed, observed):
    random_ = random.Random(seed)
    steps = make_episode(steps=200)
    cuts = 0
    with connected(learner) as actor, zmq.Context() as context:
        threads = threading.active_count()
        for step in steps[:60]:
            actor.offer([step])
            with context.socket(zmq.DEALER) as stranger:
                stranger.linger = 0
                monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                stranger.connect(learner.address)
                before = learner.counters()["rejected"]
                for _ in range(MAX_STRIKES + 2):
                    stranger.send(random_.randbytes(40))
                wait_until(lambda before=before: learner.counters()["rejected"] >= before + MAX_STRIKES)
                cuts += monitor.poll(5000) > 0
                stranger.disable_monitor()
                monitor.close()
            with socket.create_connection(("127.0.0.1", port_of(learner.address))) as raw:
                raw.sendall(random_.randbytes(500))
        actor.offer(steps[60:])
        received = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(received) < len(steps) and time.monotonic() < deadline_s:
            received += learner.receive(0.05)
        assert threading.active_count() == threads
    assert_same_transitions(received, steps)
    assert cuts == 60
    observed(f"on the wire: {cuts} of 60 strangers cut after {MAX_STRIKES} messages, threads equal, 0 of 200 lost")


@row("T1")
def test_bits_that_flip_on_the_line_lose_nothing(tmp_path, seed, observed):
    steps = make_episode(steps=300)
    received = []
    with (
        ZmqLearnerLink(DIGEST) as learner,
        FaultyLine(port_of(learner.address), seed=seed) as line,
        Spool(tmp_path / "spool", digest=DIGEST) as spool,
        closing(ZmqActorLink(f"tcp://127.0.0.1:{line.port}")) as link,
    ):
        sender = SpooledSender(spool, link, resend_s=0.2)
        sender.connect(hello(), PATIENCE_S)
        line.faults.flip_chance = 0.05
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        for step in steps:
            sender.send(step)
            sender.pump()
            received += learner.receive(0.005)
        line.faults.flip_chance = 0.0  # a flipped length still holds a connection, until its actor begins another
        while len(received) < len(steps) and time.monotonic() < deadline_s:
            sender.pump()
            received += learner.receive(0.02)
        rejected = learner.counters()["rejected"]
        assert spool.counters()["quarantined"] == 0
    assert_same_transitions(received, steps)
    observed(f"5 % of the chunks with a flipped bit: {rejected} messages rejected, 0 of {len(steps)} lost or double")


HELD_UP = """
import time
from serl_core.transport.learner_side import LearnerSide
from serl_core.transport.zmq_transport import ZmqLearnerLink
LearnerSide.handle = lambda *_: time.sleep(5.0)
link = ZmqLearnerLink("cafe").open()
address = link.address
"""


@row("T1")
def test_a_learner_that_is_held_up_outlives_an_actor_killed_with_messages_unread(observed):
    assert_outlives_a_flood(HELD_UP)
    observed("an actor killed while a learner that is held up has 2,000 of its messages unread: the learner lives")


# --- T2


def png_bomb(side):
    """Return a PNG of `side` x `side` black pixels, without ever having them in memory at once."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer, row_ = zlib.compressobj(9), b"\0" * (1 + 3 * side)
    first, same = (packer.compress(row_) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    rows = first + same * (side - 1) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@row("T2")
def test_a_frame_above_8_mib_is_refused_before_there_is_memory_for_it(learner, observed):
    huge = b"\0" * (256 * 2**20)
    before_mb = rss_mb()
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger, connected(learner) as actor:
        stranger.linger = 0
        stranger.connect(learner.address)
        stranger.send(huge, copy=False)
        stranger.send(b"\0" * (MAX_TRANSITION_BYTES + 1))
        steps = make_episode()
        actor.offer(steps)
        received = []
        wait_until(lambda: received.extend(learner.receive(0.05)) or len(received) == 5)
        time.sleep(0.5)
        grown_mb = rss_mb() - before_mb
    assert_same_transitions(received, steps)
    assert grown_mb < 64
    observed(f"256 MiB in one frame: connection cut, growth {grown_mb:.1f} MB")


@row("T2")
def test_a_bomb_is_refused_by_what_it_declares(observed):
    bomb = np.frombuffer(png_bomb(18_000), np.uint8)
    assert len(bomb) < 4.5e6
    before_mb = rss_mb()
    with pytest.raises(DataError, match="sides must be 1 to 1024 pixels, got 18000 x 18000"):
        decompress({"wrist": bomb})
    many = np.frombuffer(png_bomb(1024), np.uint8)
    with pytest.raises(DataError, match="33554432 bytes at most"):
        decompress({f"camera_{number}": many for number in range(11)})
    with pytest.raises(TransportError, match="33554432"):
        wire.decode_from_learner(wire.encode(wire.Weights(1, MAX_WEIGHTS_BYTES + 1, 0)))
    record = encode_transition(make_episode()[0])
    for said in (record, b"SRW2" + b"\xff" * 60):
        with pytest.raises(TransportError):
            decode_weights(said)
    grown_mb = rss_mb() - before_mb
    assert grown_mb < 64
    observed(f"{len(bomb) / 1e6:.1f} MB that would be 0.97 GB: refused, growth {grown_mb:.1f} MB")


# --- T3


@row("T3")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"action": np.zeros(3, np.float32)}, r"action has shape [3], the task's is [2]"),
        ({"action": np.full(2, np.nan, np.float32)}, "not finite"),
        ({"reward": float("inf")}, "finite"),
        ({"discount": 7.0}, "Expected `float` <= 1.0"),
        ({"observation": make_episode()[0].observation._replace(proprio=np.zeros(9, np.float32))}, "proprio"),
        (
            {"observation": make_episode()[0].observation._replace(images={"new": np.zeros((2, 2, 4), np.uint8)})},
            "images",
        ),
    ],
    ids=["shape", "nan", "reward", "discount", "proprio", "images"],
)
def test_a_transition_of_a_wrong_schema_comes_back_with_the_reason_and_the_next_goes_on(
    learner, tmp_path, change, reason, observed
):
    """From an actor that does not look itself."""
    steps = make_episode(steps=6)
    steps[2] = steps[2]._replace(**change)
    with Spool(tmp_path / "spool", digest=DIGEST) as spool, connected(learner) as link:
        sender = SpooledSender(spool, UncheckedLink(link, steps))
        for step in make_episode(steps=6):
            spool.append(step)
        received = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(received) < 5 and time.monotonic() < deadline_s:
            sender.pump()
            received += learner.receive(0.01)
        assert_same_transitions(received, steps[:2] + steps[3:])
        ((_, sequence, said, _),) = spool.quarantined()
        assert (sequence, learner.counters()["refused"], learner.counters()["rejected"]) == (2, 1, 0)
        assert reason in said
        sender.pump()
        assert [spooled.sequence for spooled in spool.pending(9)] == [0, 1, 3, 4, 5]
    observed("refused with the reason, in the actor's quarantine, the next ones delivered")


class UncheckedLink:
    """Sends what a faulty actor would: its own transitions under their numbers, encoded without a check."""

    def __init__(self, link, steps):
        self._link, self._steps = link, steps
        self.poll = link.poll

    def offer(self, transitions, *, after=None):
        raise AssertionError("the sender offers records")

    def offer_records(self, session, records, *, after):
        made = [(number, encode_transition(self._steps[number], is_checked=False)) for number, _ in records]
        self._link.offer_records(session, made, after=after)


@row("T3")
def test_an_actor_raises_at_its_own_side_at_the_first_transition(learner, tmp_path, observed):
    odd = make_episode()[0]._replace(action=np.zeros(3, np.float32))
    with Spool(tmp_path / "spool", digest=DIGEST) as spool, connected(learner) as link:
        sender = SpooledSender(spool, link, spec=STATE_SPEC)
        with pytest.raises(TransportError, match=r"action has shape \[3\], the task's is \[2\]"):
            sender.send(odd)
        sender.pump()
        assert len(spool.quarantined()) == 1
        assert not learner.receive(0.2)
    observed("the actor raises before a byte is sent")


# --- T4


def stalled(tmp_path, stall_s, hz=20.0):
    """Return what an actor and a learner saw of a line that stalls for so long, and the time it stalled (monotonic)."""
    seconds = stall_s + 2.5
    with ExitStack() as stack:
        learner = stack.enter_context(process(StubLearner(folder=str(tmp_path / "log"))))
        line = stack.enter_context(FaultyLine(port_of(line_of(learner))))
        settings = StubActor(
            address=f"tcp://127.0.0.1:{line.port}",
            spool=str(tmp_path / "spool"),
            hz=hz,
            seconds=seconds,
            frame_bytes=20_000,
            goes_first=True,
        )
        actor = stack.enter_context(process(settings))
        wait_until(lambda: line.passed_bytes["to_server"] > 100_000, 60.0)
        line.faults.is_black_hole = True
        time.sleep(stall_s)
        line.faults.is_black_hole = False
        acted = result_of(actor)
        result_of(learner, is_stopped=True)
    return acted, logged(tmp_path / "log")


def check_nothing_lost(acted, ids):
    assert acted["is_drained"]
    assert ids == [("session", sequence) for sequence in range(acted["made"])]
    counts = acted["counters"]
    assert counts["made"] == counts["acknowledged"] == len(ids)


@row("T4")
def test_a_stall_of_5_s_costs_the_loop_no_time_and_loses_nothing(tmp_path, observed):
    """Of this form, which runs on busy machines, the loop's own time counts: the long one takes the clock's."""
    acted, ids = stalled(tmp_path, 5.0)
    check_nothing_lost(acted, ids)
    busy_ms = percentile(acted["busy_ms"], 99)
    assert busy_ms < 5.0
    observed(
        f"5 s: {len(ids)} made, 0 lost, 0 double; sending takes {busy_ms:.2f} ms of a step (p99), "
        f"jitter p99 {percentile(acted['late_ms'], 99):.2f} ms"
    )


@pytest.mark.long
@row("T4")
def test_a_stall_of_60_s_does_not_shift_a_step_and_loses_nothing(tmp_path, observed):
    acted, ids = stalled(tmp_path, 60.0)
    check_nothing_lost(acted, ids)
    late_ms = percentile(acted["late_ms"], 99)
    observed(f"60 s: {len(ids)} made, 0 lost, 0 double; step jitter p99 {late_ms:.2f} ms")
    assert late_ms < 5.0


# --- T5


class PowerSwitch:
    """Two machines with a router between, as network namespaces: the learner's can lose its power."""

    def __init__(self, name):
        self.actor, self.router, self.learner = (f"{name}{part}" for part in "arl")

    def __enter__(self):
        for space in (self.actor, self.router):
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        self._cable(self.actor, "10.99.1")
        ip("netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.on()
        return self

    def __exit__(self, *_):
        for space in (self.actor, self.router, self.learner):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)

    def on(self):
        ip("netns", "add", self.learner)
        ip("-n", self.learner, "link", "set", "lo", "up")
        self._cable(self.learner, "10.99.2")

    def off(self):
        """Nothing is said to anybody: first the cable, then the machine."""
        ip("-n", self.router, "link", "del", f"{self.learner}0")
        ip("netns", "del", self.learner)

    def _cable(self, space, net):
        near, far = f"{space}0", f"{space}1"
        ip("link", "add", near, "netns", self.router, "type", "veth", "peer", "name", far, "netns", space)
        for name, end, address in ((self.router, near, 1), (space, far, 2)):
            ip("-n", name, "address", "add", f"{net}.{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
        ip("-n", space, "route", "add", "default", "via", f"{net}.1")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.mark.long
@row("T5")
def test_new_weights_come_within_5_s_after_the_learner_has_its_power_back(tmp_path, observed):
    off_s = 12.0
    settings = StubLearner(folder=str(tmp_path / "log"), host="10.99.2.2", port=5588, publish_s=0.2)
    with ExitStack() as stack:
        power = stack.enter_context(PowerSwitch(f"serl{os.getpid() % 10000}"))
        within = ("ip", "netns", "exec")
        learner = stack.enter_context(process(settings, *within, power.learner))
        line_of(learner)
        acting = StubActor(address="tcp://10.99.2.2:5588", spool=str(tmp_path / "spool"), hz=20.0, seconds=off_s + 12.0)
        actor = stack.enter_context(process(acting, *within, power.actor))
        time.sleep(3.0)
        power.off()
        learner.kill()
        cut_s = time.monotonic()
        time.sleep(off_s)
        power.on()
        again = stack.enter_context(process(settings, *within, power.learner))
        line_of(again)
        back_s = time.monotonic()
        acted = result_of(actor)
        result_of(again, is_stopped=True)
    ids = logged(tmp_path / "log")
    assert acted["is_drained"]
    assert ids == [("session", sequence) for sequence in range(acted["made"])]
    before = [at_s for _, at_s in acted["adopted"] if at_s < cut_s]
    after = [at_s - back_s for version, at_s in acted["adopted"] if version > 1000 * cut_s]
    assert before
    assert after[0] <= 5.0
    observed(f"off for {off_s:.0f} s: new weights after {after[0]:.2f} s, {len(ids)} made, 0 lost, 0 double")


# --- T6


@row("T6")
@pytest.mark.long
def test_a_bad_line_is_used_to_70_percent_and_nothing_piles_up(tmp_path, seed, observed):
    """1 % of the segments come a round trip late with all behind them: the retransmission, not the slower sending."""
    frame_bytes, backlog = 20_000, 600
    with ExitStack() as stack:
        learner = stack.enter_context(process(StubLearner(folder=str(tmp_path / "log"))))
        line = stack.enter_context(FaultyLine(port_of(line_of(learner)), seed=seed))
        line.faults.delay_s, line.faults.bytes_per_s, line.faults.loss = 0.05, 10e6 / 8, 0.01
        settings = StubActor(
            address=f"tcp://127.0.0.1:{line.port}",
            spool=str(tmp_path / "spool"),
            hz=20.0,
            seconds=60.0,
            frame_bytes=frame_bytes,
            backlog=backlog,
        )
        actor = stack.enter_context(process(settings))
        acted = result_of(actor)
        came = result_of(learner, is_stopped=True)
    ids = logged(tmp_path / "log")
    assert ids == [("session", sequence) for sequence in range(backlog)]
    goodput = (backlog - came["first"]) * frame_bytes / came["received_s"] / (10e6 / 8)
    resent = came["counters"]["duplicate"] / backlog
    assert goodput >= 0.7
    assert acted["grown_mb"] < 64
    assert came["grown_mb"] < 64
    observed(
        f"{100 * goodput:.0f} % of 10 Mbit/s at 100 ms, 1 % late by a round trip more; {100 * resent:.0f} % twice, "
        f"growth {acted['grown_mb']:.0f} MB"
    )


# --- P2, of an actor that does not hold


@row("P2")
def test_an_actor_that_may_drops_the_oldest_counts_them_and_goes_on_with_the_rest(tmp_path, observed):
    steps, room = make_episode(steps=60), 20
    with (
        Spool(tmp_path / "spool", digest=DIGEST, max_transitions=room, drops_oldest=True) as spool,
        ZmqLearnerLink(DIGEST) as learner,
        closing(ZmqActorLink(learner.address)) as link,
    ):
        sender = SpooledSender(spool, link, resend_s=0.2)
        sender.connect(hello(), PATIENCE_S)
        received = []

        def deliver(learner, upto):
            def has_come():
                sender.pump()
                received.extend(learner.receive(0.01))
                if received:
                    learner.acknowledge("session", received[-1].provenance.sequence)
                return bool(received) and received[-1].provenance.sequence == upto

            wait_until(has_come)

        for step in steps[:10]:
            sender.send(step)
        deliver(learner, 9)
        wait_until(lambda: sender.pump() or not spool.counters()["spooled"])
        port = port_of(learner.address)
        learner.close()
        for step in steps[10:]:
            sender.send(step)
            sender.pump()
        dropped = spool.counters()["dropped"]
        with ZmqLearnerLink(DIGEST, port=port) as successor:
            successor.restore({"session": 9})
            deliver(successor, 59)
    assert dropped == 30
    assert_same_transitions(received, [*steps[:10], *steps[40:]])
    observed(f"allowed to drop the oldest: {dropped} of 50 dropped beyond {room}, and counted; the newest {room} came")


# --- T7


class FirstWeights:
    """A policy that must not be asked before it has weights."""

    def __init__(self):
        self.is_loaded = False

    def load(self, params):
        self.is_loaded = True

    def sample(self, _):
        assert self.is_loaded, "it acted without weights"
        return np.zeros(6, np.float32)


@row("T7")
@pytest.mark.parametrize("order", ["learner weights actor", "learner actor weights", "actor learner weights"])
def test_in_any_order_the_actor_does_not_act_before_it_has_weights(tmp_path, order, observed):
    digest = CONFIG.digest()
    with ZmqLearnerLink(digest) as free:
        port = port_of(free.address)
    waited_s = 0.4
    received = []

    def learn(delay_s, weights_delay_s):
        time.sleep(delay_s)
        with ZmqLearnerLink(digest, port=port) as learner:
            time.sleep(weights_delay_s)
            learner.publish(PolicyWeights(1, {"kernel": np.zeros(3, np.float32)}, 0))
            learner.report(0, 0)
            end_s = time.monotonic() + PATIENCE_S
            while len(received) < 10 and time.monotonic() < end_s:
                for step in learner.receive(0.05):
                    received.append(step)
                    learner.acknowledge("test", step.provenance.sequence)
            time.sleep(0.2)

    delay_s = waited_s if order.startswith("actor") else 0.0
    weights_delay_s = 0.0 if order == "learner weights actor" else waited_s
    thread = threading.Thread(target=learn, args=(delay_s, weights_delay_s))
    start_s = time.monotonic()
    thread.start()
    if order == "learner weights actor":
        time.sleep(0.2)
    policy = FirstWeights()
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=True)
    with (
        Spool(tmp_path / "spool", digest=digest) as spool,
        closing(ZmqActorLink(f"tcp://127.0.0.1:{port}")) as link,
        ActorLog(tmp_path / "actor.jsonl") as log,
    ):
        sender = SpooledSender(spool, link)
        sender.connect(Hello(actor_id="a", session="test", spec_digest=digest), PATIENCE_S)
        env = open_env(robot)
        loop = ActorLoop(env, policy.sample, ListedTeleop(), session="test", sleep=time.sleep)
        reset = loop.step
        acted_s = []
        loop.step = lambda: acted_s.append(time.monotonic() - start_s) or reset()
        RemoteActor(loop, policy, link, sender, max_lead_steps=None, log=log).run(max_steps=10)
    thread.join()
    assert [step.provenance.policy_version for step in received] == [1] * 10
    assert acted_s[0] >= delay_s + weights_delay_s
    observed(f"{order}: 0 steps before the first weights")


# --- T8


@row("T8")
def test_another_version_is_refused_with_both_numbers(learner, observed):
    other_build = (
        "import sys; from serl_core.transport import wire; wire.PROTOCOL = 99\n"
        "from serl_core.transport.interface import Hello\n"
        "from serl_core.transport.zmq_transport import ZmqActorLink\n"
        "ZmqActorLink(sys.argv[1]).connect(Hello(actor_id='a', session='s', spec_digest='cafe'), 20.0)"
    )
    ended = subprocess.run([sys.executable, "-c", other_build, learner.address], capture_output=True, text=True)
    said = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode != 0
    assert f"the actor speaks protocol 99, the learner {wire.PROTOCOL}: update the older one" in said
    observed(said.rpartition(": the actor")[2].join(["the actor", ""]))


@row("T8")
def test_a_greeting_of_another_layout_is_understood_as_far_as_its_version(learner, observed):
    class Longer(wire._Message, frozen=True, tag="greeting"):
        protocol: int
        more: dict[str, int]

    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger, stranger.rcvtimeo = 0, 20_000
        stranger.connect(learner.address)
        body = msgspec.msgpack.encode(Longer(7, {"new": 1}))
        stranger.send(zlib.crc32(body).to_bytes(4, "little") + body)
        said = wire.decode_from_learner(stranger.recv()).reason
    assert "protocol 7" in said
    assert f"the learner {wire.PROTOCOL}" in said
    observed("also one of another layout")


@row("T8")
@pytest.mark.parametrize(
    ("digest", "words"), [("beef", ["beef", "cafe"]), ("cafe+small-1", ["small-1", "none"])], ids=["task", "encoder"]
)
def test_another_configuration_is_refused_with_both_in_the_message(learner, digest, words, observed):
    with (
        closing(ZmqActorLink(learner.address)) as actor,
        pytest.raises(TransportError, match="refuses this actor") as refused,
    ):
        actor.connect(hello(digest=digest), PATIENCE_S)
    assert [word for word in words if word not in str(refused.value)] == []
    observed(f"digests {digest} and cafe named")


# --- T10


@pytest.mark.long
@row("T10")
def test_a_backlog_of_100000_leaves_the_loop_and_the_weights_alone(tmp_path, observed):
    backlog = 100_000
    with ExitStack() as stack:
        learner = stack.enter_context(process(StubLearner(folder=str(tmp_path / "log"), publish_s=0.5)))
        settings = StubActor(
            address=line_of(learner),
            spool=str(tmp_path / "spool"),
            hz=100.0,
            seconds=90.0,
            backlog=backlog,
            goes_first=True,
        )
        acted = result_of(stack.enter_context(process(settings)))
        came = result_of(learner, is_stopped=True)
    ids = logged(tmp_path / "log")
    assert acted["is_drained"]
    assert ids == [("session", sequence) for sequence in range(backlog)]
    assert came["largest_bytes"] <= 2**20
    age_s = [at_s - version / 1000 for version, at_s in acted["adopted"]]
    late_ms, busy_ms = percentile(acted["late_ms"], 99), percentile(acted["busy_ms"], 99)
    observed(
        f"{backlog / acted['loop_s']:.0f}/s, messages <= {came['largest_bytes'] / 1024:.0f} KiB, weights after "
        f"{percentile(age_s, 95):.2f} s (p95), jitter p99 {late_ms:.2f} ms, {busy_ms:.2f} ms of a step"
    )
    assert percentile(age_s, 95) < 1.0
    assert late_ms < 5.0
