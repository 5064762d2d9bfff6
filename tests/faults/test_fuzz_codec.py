"""Row X11, the bytes of experience, weights and messages: 100,000 mutations of right ones at their decoders."""

import random
import resource
import time
from pathlib import Path

from serl_core.errors import TransportError
from tests.faults.fault_rows import row
from tests.faults.mutations import mutated_message, mutated_record
from tests.fuzz.targets import DECODERS, messages, records, weights

INPUTS = 100_000


def rss_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@row("X11")
def test_of_100000_mutations_each_is_decoded_or_refused_by_name(seed, observed):
    source = random.Random(seed)
    corpora = [records(), weights(), messages(), messages(), messages()]
    mutations = [mutated_record, mutated_record, mutated_message, mutated_message, mutated_message]
    kinds = list(zip(DECODERS, mutations, corpora, strict=True))
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
