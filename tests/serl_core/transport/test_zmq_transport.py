import logging
import os
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from serl_core.errors import ConfigError, TransportError
from serl_core.scheduling import before_others
from serl_core.testing.conformance import DIGEST, TRANSPORT_CHECKS
from serl_core.testing.episodes import assert_same_transitions, make_episode
from serl_core.testing.faults.proxy import FaultyLine
from serl_core.transport import actor_side, learner_side, wire, zmq_transport
from serl_core.transport.codec import MAX_TRANSITION_BYTES, encode_transition
from serl_core.transport.interface import Hello, PolicyWeights
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink


class Network:
    """Learners and actors that meet at one port of the loopback interface."""

    def __init__(self):
        with ZmqLearnerLink("any") as link:
            self.address = link.address

    def open_learner(self, digest):
        return ZmqLearnerLink(digest, port=int(self.address.rsplit(":", 1)[1])).open()

    def actor(self):
        return ZmqActorLink(self.address)


@pytest.fixture
def network():
    return Network()


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_the_zmq_transport_conforms(check, network):
    check(network.open_learner, network.actor)


@pytest.fixture
def learner(network):
    with network.open_learner(DIGEST) as learner:
        yield learner


@pytest.fixture
def actor(learner):
    with closing(ZmqActorLink(learner.address)) as actor:
        actor.connect(hello(), 20.0)
        yield actor


@pytest.fixture
def stranger(learner):
    """Return a bare socket to the learner."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = 20_000
        socket.connect(learner.address)
        yield socket


def hello(session="session"):
    return Hello(actor_id="actor", session=session, spec_digest=DIGEST)


def receive(learner, count):
    received = []
    while len(received) < count:
        received += learner.receive(0.05)
    return received


def wait_until(is_so):
    while not is_so():
        time.sleep(0.005)


def test_garbage_is_counted_and_harms_nobody(learner, actor, stranger):
    greeting = wire.encode(wire.Greeting(wire.PROTOCOL, "stranger", "stranger", DIGEST))
    offer = wire.encode(wire.Offer("stranger", 0, -1, 0))
    bad = [
        [b""],
        [b"\xff" * 100],
        [b"\x93\xa5offer"],
        [wire.encode(wire.Status(0, 0, 0, 0, False, "s", 0, "", ""))],
        [wire.encode(wire.Offer("../stranger", 0, -1, 0))],
        [offer, b"no record"],
        [offer, encode_transition(make_episode(session="somebody-else")[0])],
        [offer, encode_transition(make_episode(session="stranger")[1])],
    ]
    for number, frames in enumerate(bad, 1):
        stranger.send(greeting)
        wait_until(lambda: learner.counters()["connected"] == 2)
        stranger.send_multipart(frames)
        wait_until(lambda number=number: learner.counters()["rejected"] == number)
    steps = make_episode()
    actor.offer(steps)
    assert_same_transitions(receive(learner, 5), steps)


def test_a_stranger_who_did_not_introduce_itself_is_not_heard(learner, actor, stranger):
    step = make_episode(session="stranger")[0]
    stranger.send_multipart([wire.encode(wire.Offer("stranger", 0, -1, 0)), encode_transition(step)])
    stranger.send(b"garbage, which is counted after the offer before it")
    wait_until(lambda: learner.counters()["rejected"] == 1)
    assert not learner.receive(0.0)


def test_a_frame_beyond_the_limit_does_not_reach_memory(learner, actor, stranger):
    stranger.send(b"\0" * (MAX_TRANSITION_BYTES + 1))
    steps = make_episode()
    actor.offer(steps)
    assert_same_transitions(receive(learner, 5), steps)
    assert learner.counters()["rejected"] == 0


def test_another_protocol_is_refused_with_both_numbers(learner, stranger):
    stranger.send(wire.encode(wire.Greeting(99, "stranger", "stranger", DIGEST)))
    assert f"protocol 99, the learner {wire.PROTOCOL}" in wire.decode_from_learner(stranger.recv()).reason


def test_each_greeting_is_answered_although_nothing_has_changed(learner, stranger):
    """The answer to an earlier one may have been lost."""
    for _ in range(2):
        stranger.send(wire.encode(wire.Greeting(wire.PROTOCOL, "stranger", "stranger", DIGEST)))
        assert wire.decode_from_learner(stranger.recv()).session == "stranger"


def test_a_refusal_reaches_an_actor_that_was_connected_before(network):
    with closing(network.actor()) as actor:
        with network.open_learner(DIGEST):
            actor.connect(hello(), 20.0)
        with network.open_learner("beef"), pytest.raises(TransportError, match="beef"):
            wait_until(lambda: actor.poll(0.05) and False)


def test_a_taken_port_is_named(learner, network):
    with pytest.raises(TransportError, match=r"cannot listen on tcp://127\.0\.0\.1:\d+: .* choose another port"):
        network.open_learner(DIGEST)


def test_the_open_network_needs_a_second_word():
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 is not a loopback address: .*--keys, .*--insecure-lan"):
        ZmqLearnerLink(DIGEST, host="0.0.0.0")


def test_a_malformed_address_is_named():
    with pytest.raises(TransportError, match="learner address 'nowhere'"):
        ZmqActorLink("nowhere").connect(hello(), 0.1)


def test_weights_that_are_not_finite_are_never_published(learner, actor):
    with pytest.raises(TransportError, match="not finite"):
        learner.publish(PolicyWeights(1, {"kernel": np.array([np.nan], np.float32)}, 0))
    learner.report(1, 1)
    wait_until(lambda: actor.poll(0.05) is not None)
    assert actor.newest_weights(0) is None


def test_an_actor_that_vanished_is_forgotten(learner, actor, monkeypatch):
    assert learner.counters()["connected"] == 1
    monkeypatch.setattr(learner_side, "ACTOR_GONE_S", 0.0)
    learner.report(1, 1)
    wait_until(lambda: learner.counters()["connected"] == 0)


def test_a_thread_that_fails_is_not_hidden(learner, actor, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr(learner._inbox, "begin", fail)
    actor.offer(make_episode())
    with pytest.raises(TransportError, match="the link has failed: boom"):
        receive(learner, 1)


def test_a_closed_link_says_so(learner, actor):
    learner.close()
    with pytest.raises(TransportError, match="this link is closed: call `open` first"):
        learner.receive(0.0)
    actor.close()
    with pytest.raises(TransportError, match="this link is closed: call `connect` first"):
        actor.offer([])


def test_no_message_exceeds_the_batch_limit_and_none_mixes_sessions(network, monkeypatch):
    """Fault 16 of earlier systems: the whole queue resent as one message."""
    picture = {"wrist": np.zeros((160, 160, 3), np.uint8)}
    steps = [
        t._replace(observation=t.observation._replace(images=picture))
        for session in "ab"
        for t in make_episode(session=session, steps=9)
    ]
    del steps[5]
    link, offers = network.actor(), []
    monkeypatch.setattr(link, "_accepted", lambda: None)
    monkeypatch.setattr(link, "offer_records", lambda *offer, after: offers.append((*offer, after)))
    link.offer(steps)
    assert [session for session, _, _ in offers] == ["a", "b"]
    batches = [
        (session, *batch) for session, records, after in offers for batch in zmq_transport.batches(records, after)
    ]
    assert [(session, before, first, len(records)) for session, before, first, records in batches] == [
        ("a", -1, 0, 3),
        ("a", 2, 3, 2),
        ("a", 4, 6, 3),
        ("b", -1, 0, 3),
        ("b", 2, 3, 3),
        ("b", 5, 6, 3),
    ]
    assert all(sum(map(len, records)) <= zmq_transport.MAX_BATCH_BYTES for *_, records in batches)


def test_what_waits_for_an_absent_learner_is_bounded(network):
    picture = {"wrist": np.zeros((1000, 1000, 3), np.uint8)}
    step = make_episode()[0]
    step = step._replace(observation=step.observation._replace(images=picture))
    with closing(network.actor()) as actor:
        with network.open_learner(DIGEST):
            actor.connect(hello(), 20.0)
        for _ in range(20):
            actor.offer([step])
        assert actor.waiting_bytes <= actor_side.MAX_OUTBOX_BYTES


def test_a_connection_that_only_the_actor_believes_in_is_begun_anew(learner, caplog):
    caplog.set_level(logging.INFO)
    steps = make_episode(steps=2)
    port = int(learner.address.rsplit(":", 1)[1])
    with FaultyLine(port) as line, closing(ZmqActorLink(f"tcp://127.0.0.1:{line.port}")) as actor:
        actor.connect(hello(), 20.0)
        actor.offer(steps[:1])
        received = receive(learner, 1)
        line.half_open()
        deadline_s = time.monotonic() + 20.0
        while len(received) < 2 and time.monotonic() < deadline_s:
            actor.offer(steps[1:], after=steps[0].provenance.sequence)
            received += learner.receive(0.2)
        wait_until(lambda: "answers again" in caplog.text)
    assert_same_transitions(received, steps)
    assert learner.counters()["introduced"] >= 2
    for words in ("no word from tcp://127.0.0.1", "connected: actor 'actor'", "left: actor 'actor'"):
        assert words in caplog.text


def carriers():
    """Return ZeroMQ's threads of this process."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            found |= {int(task.name)} if (task / "comm").read_text().startswith("ZMQbg") else set()
    return found


def test_what_carries_messages_goes_before_ordinary_processes_and_after_all_that_steps_wait_for():
    """Ordinary ones waited for whatever else had the processor, with what an acknowledgement was in."""
    try:
        before = carriers()  # of other links
        with before_others(), ZmqLearnerLink(DIGEST):
            new = carriers() - before
            found = {(os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority) for thread in new}
    except ConfigError as refusal:  # of a system that does not allow it
        assert "--real-time-priority" in str(refusal)  # noqa: PT017
    else:
        assert found == {(os.SCHED_FIFO, 1)}
