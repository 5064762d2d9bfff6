"""An actor and a learner as processes of their own, stripped to what carries experience: no robot, no network.

The actor takes steps at a rate, through the real spool and link; the learner logs and acknowledges as the real one
does. Versions of weights tell when they were published (monotonic clock, ms), so ages need no other channel.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from serl_core.clock import Rate
from serl_core.data.episode_log import EpisodeLog
from serl_core.errors import ConfigError
from serl_core.scheduling import go_before_others
from serl_core.testing.episodes import make_episode
from serl_core.transport.interface import Hello, PolicyWeights
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from serl_core.types import EndReason, Transition

REPOSITORY = Path(__file__).parents[2]
DIGEST = "cafe"
EPISODE = 100
PATIENCE_S = 60.0
MAX_ROWS = 200_000


@dataclass(frozen=True, kw_only=True)
class StubActor:
    """Takes steps for `seconds`, or until its backlog is gone; then waits for acknowledgements."""

    address: str
    spool: str
    session: str = "session"
    hz: float = 50.0
    seconds: float = 5.0
    frame_bytes: int = 0  # of each transition, beside its numbers
    backlog: int = 0  # transitions that the spool holds already, and no steps: the rate is that of looking after them
    drain_s: float = 30.0
    goes_first: bool = False  # with `--real-time-priority`, where that is allowed


@dataclass(frozen=True, kw_only=True)
class StubLearner:
    """Logs and acknowledges, publishes weights each `publish_s`."""

    folder: str
    host: str = "127.0.0.1"
    port: int = 0
    publish_s: float = 0.0
    weights_bytes: int = 400_000


def steps(session: str, frame_bytes: int = 0) -> Iterator[Transition]:
    """Yield transitions without end."""
    template = make_episode(session=session, steps=1)[0]
    if frame_bytes:
        rng = np.random.default_rng(0)
        frames = [{"wrist": rng.integers(256, size=frame_bytes // 2).astype(np.uint8)} for _ in range(2)]
        template = template._replace(
            observation=template.observation._replace(frames=frames[0]),
            next_observation=template.next_observation._replace(frames=frames[1]),
        )
    assert template.provenance is not None
    sequence = 0
    while True:
        is_last = sequence % EPISODE == EPISODE - 1
        yield template._replace(
            provenance=template.provenance._replace(sequence=sequence, episode=sequence // EPISODE),
            end=EndReason.TIME_LIMIT if is_last else EndReason.RUNNING,
        )
        sequence += 1


def run_actor(settings: StubActor) -> dict[str, Any]:
    """Return how it went."""
    sys.setswitchinterval(0.0005)  # as the real one
    if settings.goes_first:
        with suppress(ConfigError):
            go_before_others()
    late_s: list[float] = []
    busy_s: list[float] = []
    adopted: list[tuple[int, float]] = []
    made = 0
    source = steps(settings.session, settings.frame_bytes)
    with (
        Spool(Path(settings.spool), digest=DIGEST, max_transitions=MAX_ROWS) as spool,
        closing(ZmqActorLink(settings.address)) as link,
    ):
        sender = SpooledSender(spool, link)
        spool._execute("BEGIN")  # one transaction: it is not what is measured
        for _ in range(settings.backlog):
            spool.append(next(source))
        spool._execute("COMMIT")
        rss_mb = _rss_mb()
        sender.connect(Hello(actor_id="actor", session=settings.session, spec_digest=DIGEST), PATIENCE_S)
        start_s = time.monotonic()
        rate = Rate(settings.hz)
        most_waiting = 0
        while (
            (sender.counters()["spooled"] > 0) if settings.backlog else (time.monotonic() - start_s < settings.seconds)
        ):
            if time.monotonic() - start_s > settings.seconds + PATIENCE_S:
                break
            begun_s = time.thread_time()
            if not settings.backlog:
                step = next(source)
                sender.send(step)
                made += 1
            sender.pump()
            busy_s.append(time.thread_time() - begun_s)
            weights = link.newest_weights(adopted[-1][0] if adopted else 0)
            if weights is not None:
                adopted.append((weights.version, time.monotonic()))
            most_waiting = max(most_waiting, link.waiting_bytes)
            if made and step.end is not EndReason.RUNNING:
                rate.restart()  # as the reset does, which the spool's sync to the disk is a part of
            rate.wait()
            late_s.extend(rate.late_s)
            rate.late_s.clear()
        loop_s = time.monotonic() - start_s
        is_drained = sender.drain(settings.drain_s)
        return {
            "made": made + settings.backlog,
            "late_ms": [round(1e3 * late, 3) for late in late_s],
            "busy_ms": [round(1e3 * busy, 3) for busy in busy_s],
            "adopted": adopted,
            "loop_s": loop_s,
            "is_drained": is_drained,
            "counters": dict(sender.counters()),
            "most_waiting_bytes": most_waiting,
            "grown_mb": _rss_mb() - rss_mb,
        }


def run_learner(settings: StubLearner) -> dict[str, Any]:
    """Return what came, after SIGTERM."""
    is_stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: is_stopped.append(number))
    largest = 0
    came_s: list[float] = []
    first = 0  # how many came at once with the first
    with (
        closing(EpisodeLog(Path(settings.folder), DIGEST)) as log,
        ZmqLearnerLink(DIGEST, host=settings.host, port=settings.port, insecure_lan=True) as link,
    ):
        link.restore(log.synced_sequences())
        handle = link._side.handle

        def measured(frames: Sequence[bytes], *rest: Any) -> bool:
            nonlocal largest
            largest = max(largest, sum(map(len, frames[2:])))
            return handle(frames, *rest)

        link._side.handle = measured  # type: ignore[method-assign]
        acked: dict[str, int] = {}
        published_s = -settings.publish_s
        _tell(link.address)
        rss_mb = _rss_mb()
        while not is_stopped:
            now_s = time.monotonic()
            if settings.publish_s and now_s - published_s >= settings.publish_s:
                kernel = np.zeros(settings.weights_bytes // 4, np.float32)
                link.publish(PolicyWeights(int(1000 * now_s), {"kernel": kernel}, 0))
                published_s = now_s
            came = link.receive(0.02)
            if came:
                came_s.append(time.monotonic())
                first = first or len(came)
            log.append(came)
            for session, sequence in log.synced_sequences().items() - acked.items():
                link.acknowledge(session, sequence)
            acked = log.synced_sequences()
        return {
            "received_s": came_s[-1] - came_s[0] if came_s else 0.0,
            "first": first,
            "largest_bytes": largest,
            "counters": dict(link.counters()),
            "grown_mb": _rss_mb() - rss_mb,
        }


def logged(folder: Path) -> list[tuple[str, int]]:
    """Return session and number of all that a learner has logged, in its order."""
    with closing(EpisodeLog(folder, DIGEST)) as log:
        found = [step.provenance for step in log.transitions()]
    return [(provenance.session, provenance.sequence) for provenance in found if provenance is not None]


@contextmanager
def process(settings: StubActor | StubLearner, *before: str) -> Iterator["subprocess.Popen[str]"]:
    """Yield the running process; `before` are words of a command that is to start it. Kills it in the end."""
    command = [*before, sys.executable, "-m", "tests.faults.link_rig", type(settings).__name__]
    child = subprocess.Popen(
        [*command, json.dumps(asdict(settings))], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def line_of(child: "subprocess.Popen[str]") -> str:
    """Return the next line that a process prints."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, f"the process ended with status {child.wait()}"
    return line.strip()


def result_of(child: "subprocess.Popen[str]", *, is_stopped: bool = False) -> dict[str, Any]:
    """Return what a process has to tell, after it was told to end if `is_stopped`."""
    if is_stopped:
        child.send_signal(signal.SIGTERM)
    found: dict[str, Any] = json.loads(line_of(child))
    assert child.wait(PATIENCE_S) == 0
    return found


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    kind, given = sys.argv[1:]
    if kind == "StubActor":
        _tell(json.dumps(run_actor(StubActor(**json.loads(given)))))
    else:
        _tell(json.dumps(run_learner(StubLearner(**json.loads(given)))))
