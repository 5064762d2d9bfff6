"""Row X7: without the right key no byte reaches what decodes."""

import time
from contextlib import closing

import pytest
import zmq

from serl_core.errors import TransportError
from serl_core.testing.episodes import assert_same_transitions, make_episode
from serl_core.transport import wire
from serl_core.transport.codec import encode_transition
from serl_core.transport.interface import Hello
from serl_core.transport.keys import add_actor, create_keys, load_actor_keys, revoke_actor
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from tests.faults.fault_rows import row

DIGEST = "cafe"
PATIENCE_S = 20.0


@pytest.fixture
def keys(tmp_path):
    create_keys(tmp_path / "keys", ["right", "other"])
    return tmp_path / "keys"


@pytest.fixture
def learner(keys):
    with ZmqLearnerLink(DIGEST, keys=keys) as learner:
        learner.heard = []
        handle = learner._side.handle

        def listen(frames, send, now_s):
            learner.heard.append([bytes(frame) for frame in frames[1:]])
            return handle(frames, send, now_s)

        learner._side.handle = listen
        yield learner


def hello(session="session"):
    return Hello(actor_id="actor", session=session, spec_digest=DIGEST)


def arrives(learner, keys, session="session"):
    """Check that an actor with keys delivers."""
    steps = make_episode(session=session)
    with closing(ZmqActorLink(learner.address, keys)) as actor:
        actor.connect(hello(session), PATIENCE_S)
        actor.offer(steps)
        received = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(received) < len(steps) and time.monotonic() < deadline_s:
            received += learner.receive(0.05)
    assert_same_transitions(received, steps)


def shout(address, keys=None, learner_public=None):
    """Send what an actor sends, for a while, with whatever keys."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        if keys is not None:
            stranger.curve_serverkey = learner_public
            stranger.curve_publickey, stranger.curve_secretkey = keys
        stranger.connect(address)
        greeting = wire.encode(wire.Greeting(wire.PROTOCOL, "stranger", "stranger", DIGEST))
        offer = [wire.encode(wire.Offer("stranger", 0, -1, 0)), encode_transition(make_episode(session="stranger")[0])]
        stranger.sndtimeo = 200
        for _ in range(4):
            for frames in ([greeting], offer, [b"garbage"]):
                try:
                    stranger.send_multipart(frames)
                except zmq.Again:
                    break
            time.sleep(0.1)


@row("X7")
def test_without_a_key_no_byte_is_heard(learner, keys, observed):
    shout(learner.address)
    with closing(ZmqActorLink(learner.address)) as actor, pytest.raises(TransportError, match="no learner answers"):
        actor.connect(hello(), 1.0)
    assert learner.heard == []
    arrives(learner, keys / "for_actors" / "right.json")
    observed("no key: 0 bytes")


@row("X7")
@pytest.mark.parametrize("wrong", ["actor", "learner"])
def test_with_a_wrong_key_no_byte_is_heard(learner, keys, wrong, observed):
    right = load_actor_keys(keys / "for_actors" / "right.json")
    if wrong == "actor":
        shout(learner.address, zmq.curve_keypair(), right.learner_public.encode())
        deadline_s = time.monotonic() + PATIENCE_S
        while not learner.counters()["denied"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    else:
        shout(learner.address, (right.public.encode(), right.secret.encode()), zmq.curve_keypair()[0])
    assert learner.heard == []
    arrives(learner, keys / "for_actors" / "right.json")
    observed(f"wrong key of the {wrong}: 0 bytes")


@row("X7")
def test_with_a_revoked_key_no_byte_is_heard_also_of_who_is_connected(learner, keys, observed):
    file = keys / "for_actors" / "other.json"
    kept = file.rename(keys.parent / "other.json")
    with closing(ZmqActorLink(learner.address, kept)) as actor:
        actor.connect(hello("other"), PATIENCE_S)
        revoke_actor(keys, "other")
        time.sleep(1.0)  # it may take half of this
        heard = len(learner.heard)
        actor.offer(make_episode(session="other"))
        time.sleep(1.5)
        assert len(learner.heard) == heard
    with closing(ZmqActorLink(learner.address, kept)) as actor, pytest.raises(TransportError, match="admits the key"):
        actor.connect(hello("other"), 1.0)
    assert len(learner.heard) == heard
    assert not learner.receive(0.0)
    arrives(learner, keys / "for_actors" / "right.json")
    observed("revoked: 0 bytes from 1 s on, also on the connection that stood")


@row("X7")
def test_a_key_that_is_added_is_admitted_by_a_learner_that_runs(learner, keys, observed):
    file = add_actor(keys, "later")
    time.sleep(0.6)
    arrives(learner, file, "later")
    observed("added: admitted without a restart")
