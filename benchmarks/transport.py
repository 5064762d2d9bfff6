"""What delivery costs: an actor's spool and socket here, a learner that logs and acknowledges in another process.

Run as `python benchmarks/transport.py`. Prints one JSON line. Steps are made at `--hz`, as an actor
does; then a backlog is drained. Sampling of the replay buffer is timed alone. With `--curve` the line is encrypted.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from serl_core.clock import Rate
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.mixture import Mixture
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.testing.episodes import make_episode
from serl_core.transport.interface import Hello
from serl_core.transport.keys import create_keys
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from serl_core.types import ActionBlock, ActionSpec, EnvSpec, Transition

SPEC = EnvSpec(
    proprio_size=18,
    action=ActionSpec((ActionBlock("twist", 6), ActionBlock("gripper", 1))),
    control_hz=10.0,
    image_shapes={},
    feature_shapes={},
)
EPISODE = 100
SAMPLES = 300


def learner(folder: str, keys: Path | None, control: Connection) -> None:
    """Log and acknowledge until told to end."""
    log = EpisodeLog(Path(folder), "benchmark")
    with ZmqLearnerLink("benchmark", keys=keys) as link:
        control.send(link.address)
        while not control.poll():
            transitions = link.receive(0.01)
            log.append(transitions)
            for session in {t.provenance.session for t in transitions if t.provenance}:
                link.acknowledge(session, log.last_sequences()[session])
    log.close()


def steps(count: int) -> list[Transition]:
    """Return episodes of one session."""
    return [
        step
        for episode in range(count // EPISODE)
        for step in make_episode(SPEC, episode=episode, first_sequence=EPISODE * episode, steps=EPISODE)
    ]


def with_frames(step: Transition, size: int) -> Transition:
    """Return a step with so many bytes of compressed images."""
    frames = {"camera": np.random.default_rng(0).integers(256, size=size // 2).astype(np.uint8)} if size else {}
    return step._replace(
        observation=step.observation._replace(frames=frames),
        next_observation=step.next_observation._replace(frames=frames),
    )


def deliver(link: ZmqActorLink, spool: Spool, paced: list[Transition], backlog: list[Transition], hz: float) -> dict:
    """Return the actor's time per tick and until the acknowledgement in ms, and the rate of draining a backlog."""
    sender = SpooledSender(spool, link)
    sender.connect(Hello(actor_id="actor", session="session", spec_digest="benchmark"), 30.0)
    rate, ticks, acknowledged = Rate(hz), [], []
    for step in paced:
        start_s = time.perf_counter()
        sender.send(step)
        sender.pump()
        ticks.append(time.perf_counter() - start_s)
        while sender.counters()["spooled"]:
            sender.drain(1.0)
        acknowledged.append(time.perf_counter() - start_s)
        rate.wait()
    for step in backlog:
        spool.append(step)
    start_s = time.perf_counter()
    while not sender.drain(60.0):
        pass
    drained_s = time.perf_counter() - start_s
    return {
        "tick_ms_p50_p99": (1e3 * np.percentile(ticks, [50, 99])).round(3).tolist(),
        "acknowledged_ms_p50_p99": (1e3 * np.percentile(acknowledged, [50, 99])).round(3).tolist(),
        "backlog_transitions_s": round(len(backlog) / drained_s),
    }


def sampling() -> dict:
    """Return the time for the batches of one environment step, [20, 256] transitions, in ms."""
    demonstrations = ReplayBuffer.holding(SPEC, [make_episode(SPEC, session="demo", steps=1000, interventions=[0])])
    online = ReplayBuffer(SPEC, 15_000)
    for step in steps(12_000):
        online.insert(step)
    rng, mixture, times = np.random.default_rng(0), Mixture(demonstrations, online), []
    np.empty(2**24, np.uint8)  # freed at once: malloc then keeps large blocks, as in a process that has run XLA
    for _ in range(SAMPLES):
        start_s = time.perf_counter()
        mixture.sample(rng, 20, 256)
        times.append(time.perf_counter() - start_s)
    return {"mixture_20x256_ms_p50_p99": (1e3 * np.percentile(times, [50, 99])).round(3).tolist()}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hz", type=float, default=50.0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--backlog", type=int, default=5000)
    parser.add_argument("--frame-bytes", type=int, default=0, help="of each transition, beside its numbers")
    parser.add_argument("--curve", action="store_true", help="encrypt, with keys made for this")
    args = parser.parse_args()
    history = [with_frames(step, args.frame_bytes) for step in steps(args.steps + args.backlog)]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        (file,) = create_keys(keys, ["actor"])
        process = context.Process(target=learner, args=(f"{folder}/log", keys if args.curve else None, theirs))
        process.start()
        link = ZmqActorLink(ours.recv(), file if args.curve else None)
        with Spool(Path(folder) / "spool.sqlite", digest="") as spool:
            found = deliver(link, spool, history[: args.steps], history[args.steps :], args.hz)
        link.close()
        ours.send("end")
        process.join()
    print(json.dumps(found | sampling()))


if __name__ == "__main__":
    main()
