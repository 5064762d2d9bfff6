"""Row X11, the bytes of experience, weights and messages: 100,000 mutations of right ones at their decoders."""

import random
import resource
import time
from pathlib import Path

import numpy as np

from serl_core.errors import TransportError
from serl_core.testing.episodes import PIXEL_SPEC, make_episode
from serl_core.transport import wire
from serl_core.transport.codec import decode_transition, decode_weights, encode_transition, encode_weights
from serl_core.transport.interface import PolicyWeights
from tests.faults.fault_rows import row
from tests.faults.mutations import mutated_message, mutated_record

INPUTS = 100_000


def rss_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@row("X11")
def test_of_100000_mutations_each_is_decoded_or_refused_by_name(seed, observed):
    source = random.Random(seed)
    records = [encode_transition(step) for step in make_episode(steps=2)]
    records += [encode_transition(step) for step in make_episode(PIXEL_SPEC, steps=2, frames=["wrist"])]
    tree = {
        "layer": {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(0, np.float32)},
        "scale": np.ones(2, "f4"),
    }
    weights = [encode_weights(PolicyWeights(1, tree, 5))]
    messages = [
        wire.encode(message)
        for message in (
            wire.Greeting(wire.PROTOCOL, "actor", "session", "cafe"),
            wire.Offer("session", 0, -1, 0),
            wire.Pull(3),
            wire.Leaving(),
            wire.Status(0, 0, 0, 0, False, "session", 0, "", "learner"),
            wire.Weights(),
            wire.Refusal("no"),
        )
    ]
    kinds = [
        (decode_transition, mutated_record, records),
        (decode_weights, mutated_record, weights),
        (wire.decode_from_actor, mutated_message, messages),
        (wire.decode_from_learner, mutated_message, messages),
        (wire.foreign_protocol, mutated_message, messages),
    ]
    before_mb, longest_s, refused, whole = rss_mb(), 0.0, 0, 0
    for number in range(INPUTS):
        decode, mutate, corpus = kinds[number % len(kinds)]
        data = mutate(source.choice(corpus), source, is_repaired=number % 3 > 0)
        start_s = time.thread_time()
        try:
            decode(data)
            whole += 1
        except TransportError:
            refused += 1
        longest_s = max(longest_s, time.thread_time() - start_s)
    grown_mb = rss_mb() - before_mb
    assert refused > INPUTS // 3
    assert whole > 1000  # else the mutations are too wild to get far
    assert longest_s < 1.0
    assert grown_mb < 64
    observed(
        f"codec and messages: {INPUTS} inputs, {refused} refused, 0 crashes, longest {1e3 * longest_s:.1f} ms, "
        f"growth {grown_mb:.0f} MB"
    )
