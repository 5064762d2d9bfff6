"""One of the soak's stub actors: no arm and no policy, but the real spool, sender, link, metrics and log.

Run as `python benchmarks/soak_stub.py --number 0 --learner tcp://127.0.0.1:5555 --run FOLDER --hz 50 --seed 0`; ends
with SIGTERM.
"""

import argparse
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np

from actors.actor_metrics import ActorMetrics, ActorNumbers
from actors.program_end import ended_by_signals
from actors.remote import ActorLog
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from serl_core.clock import Rate
from serl_core.envs.task import load_task
from serl_core.metrics_server import MetricsServer
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink
from serl_core.types import EndReason, EnvSpec, Observation, Provenance, Transition

TASK = "ram_insertion"  # from the state: its transitions have no pictures
EPISODE_STEPS = 100
PATIENCE_S = 120.0  # with a learner that starts
DRAIN_S = 60.0


def steps(session: str, spec: EnvSpec, seed: int) -> Iterator[Transition]:
    """Yield transitions of one session without end, each beginning where the last ended."""
    rng = np.random.default_rng(seed)
    seen = [
        Observation(proprio=rng.standard_normal(spec.proprio_size).astype(np.float32), features={}, frames={})
        for _ in range(EPISODE_STEPS + 1)
    ]
    sequence = 0
    while True:
        episode, step = divmod(sequence, EPISODE_STEPS)
        yield Transition(
            observation=seen[step],
            action=rng.uniform(-1.0, 1.0, spec.action.size).astype(np.float32),
            reward=0.0,
            discount=1.0,
            next_observation=seen[step + 1],
            is_intervention=False,
            end=EndReason.TIME_LIMIT if step == EPISODE_STEPS - 1 else EndReason.RUNNING,
            provenance=Provenance(session, sequence, episode, 1, time.monotonic()),
        )
        sequence += 1


def main() -> int:
    """Step until told to end; return 0 if the learner then has it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--learner", required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of spool, log and metrics' address")
    parser.add_argument("--hz", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("serl_core.clock").setLevel(logging.ERROR)  # so many stubs are late now and then
    config = load_task(TASK).config
    name, session = f"stub-{args.number}", uuid.uuid4().hex
    metrics = ActorMetrics(time.monotonic)
    with ExitStack() as stack:
        stop = stack.enter_context(ended_by_signals())
        spool = stack.enter_context(Spool(args.run / f"{name}.spool", digest=config.digest()))
        link = stack.enter_context(closing(ZmqActorLink(args.learner)))
        sender = SpooledSender(spool, link, spec=config.env_spec())
        log = stack.enter_context(ActorLog(args.run / f"{name}.jsonl"))
        address = args.run / f"{name}.metrics.url"
        stack.enter_context(MetricsServer(metrics.samples, ready_file=address))
        sender.connect(Hello(actor_id=name, session=session, spec_digest=config.digest()), PATIENCE_S)
        made, ahead = 0, steps(session, config.env_spec(), args.seed)
        rate = Rate(args.hz)
        while not stop.is_set():
            rate.wait()
            if not sender.is_full:
                sender.send(next(ahead))
                made += 1
            sender.pump()
            metrics.numbers = ActorNumbers(transitions=sender.counters())
            log.tick(partial(dict, session=session, env_steps=made))
        log.write(partial(dict, session=session, env_steps=made))
        return 0 if sender.drain(DRAIN_S) else 1


if __name__ == "__main__":
    raise SystemExit(main())
