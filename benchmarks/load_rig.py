"""The load's processes: actors that step through the real spool and link, and a learner that trains nothing."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from learners.intake import Intake
from serl_core.clock import Rate
from serl_core.data.episode_log import EpisodeLog
from serl_core.scheduling import before_others, go_before_others, spare_what_stays
from serl_core.transport.codec import encode_transition
from serl_core.transport.interface import Hello, LearnerStatus, PolicyWeights
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from serl_core.types import EndReason, Observation, Provenance, Transition

DIGEST = "load"
CAMERAS = ("wrist", "side")
FEATURES = (8, 8, 64)  # of one frame, float16: 8 KiB
EPISODE_STEPS = 100
APART = 13  # steps between the ends of two actors' episodes: arms do not work in step
START_S = 60.0  # for a process, on a busy machine
DRAIN_S = 60.0
BOUT = 2  # seconds with large weights, and as many without: a slow time of the machine lasts longer, and is in both


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the actors do."""

    actors: int = 8
    hz: float = 20.0
    frame_bytes: int = 8_000  # of one compressed picture of 128x128: JPEG
    backlog: int = 0  # transitions of each actor that wait before it connects
    seed: int = 0
    goes_before_others: bool = False  # SCHED_FIFO, as with --real-time-priority of actors and learner


class ActorResult(NamedTuple):
    """What one actor saw. Times are of the machine's monotonic clock."""

    session: str
    made: int
    sent: int
    left: int  # not acknowledged at the end
    record_bytes: int
    acknowledged_s: list[float]  # how long each waited for its acknowledgement
    tick_s: list[float]  # when each step began
    late_s: list[float]  # how late each began
    cpu_s: float  # of the process, steps and link
    run_s: float
    backlog_drained_s: float  # when the last of what had waited before it connected was acknowledged
    adopted_s: dict[int, float]  # when each version of weights was there
    rss_bytes: list[int]  # each second


def _observation(rng: np.random.Generator, frame_bytes: int) -> Observation:
    return Observation(
        proprio=rng.standard_normal(18).astype(np.float32),
        features={name: rng.standard_normal(FEATURES).astype(np.float16) for name in CAMERAS},
        frames={name: rng.integers(256, size=frame_bytes).astype(np.uint8) for name in CAMERAS},
    )


class Steps:
    """Transitions of one session, each beginning where the last ended."""

    def __init__(self, session: str, load: Load, number: int) -> None:
        rng = np.random.default_rng([load.seed, number])
        self._session = session
        self._ahead = APART * number
        self._seen = [_observation(rng, load.frame_bytes) for _ in range(32)]
        self.sequence = 0

    def next(self) -> Transition:
        """Return the next step."""
        i = self.sequence
        self.sequence += 1
        episode, step = divmod(i + self._ahead, EPISODE_STEPS)
        return Transition(
            observation=self._seen[i % 32],
            action=np.zeros(7, np.float32),
            reward=0.0,
            discount=1.0,
            next_observation=self._seen[(i + 1) % 32],
            is_intervention=False,
            end=EndReason.TIME_LIMIT if step == EPISODE_STEPS - 1 else EndReason.RUNNING,
            provenance=Provenance(self._session, i, episode, 1, i / 10),
        )


class _HeardLink:
    """An actor's link whose statuses are noted when they come, although the sender looks only at its steps."""

    def __init__(self, link: ZmqActorLink) -> None:
        self._link = link
        self._heard: list[LearnerStatus] = []
        self.acked: dict[str, int] = {}
        self.acked_s: dict[tuple[str, int], float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def poll(self, timeout_s: float = 0.0) -> LearnerStatus | None:
        if self._heard:
            return self._heard.pop(0)
        return self._note(self._link.poll(timeout_s))

    def listen(self, timeout_s: float) -> None:
        """Wait for a status, and keep it for the sender."""
        if (status := self._note(self._link.poll(timeout_s))) is not None:
            self._heard.append(status)

    def _note(self, status: LearnerStatus | None) -> LearnerStatus | None:
        if status is not None:
            before = self.acked.get(status.session, -1)
            now_s = time.monotonic()
            for sequence in range(before + 1, status.acked_sequence + 1):
                self.acked_s[status.session, sequence] = now_s
            self.acked[status.session] = max(before, status.acked_sequence)
        return status


def _act(address: str, folder: str, number: int, load: Load, control: Connection) -> None:
    """Step until told to end; send the result back."""
    _settle(load)
    session = f"actor{number:02d}"
    steps, made_s, late_s, tick_s = Steps(session, load, number), {}, [], []
    adopted_s: dict[int, float] = {}
    rss: list[int] = []
    with Spool(Path(folder) / f"{session}.spool", digest=DIGEST) as spool:
        for _ in range(load.backlog):
            spool.append(steps.next())
        spool.sync()  # as at the end of each episode that it is made of
        link = _HeardLink(ZmqActorLink(address))
        sender = SpooledSender(spool, link)
        sender.connect(Hello(actor_id=session, session=session, spec_digest=DIGEST), START_S)
        spare_what_stays()
        control.send("ready")
        control.recv()
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()

        def wait(duration_s: float) -> None:
            end_s = time.monotonic() + duration_s
            while link.acked.get(session, -1) < steps.sequence - 1 and (left_s := end_s - time.monotonic()) > 0.004:
                link.listen(left_s - 0.003)
            time.sleep(max(end_s - time.monotonic(), 0.0))
            if (weights := link.newest_weights(max(adopted_s, default=0))) is not None:
                adopted_s[weights.version] = time.monotonic()

        rate, is_ended = Rate(load.hz, sleep=wait), _end_of(control)
        while not is_ended.is_set():
            rate.wait()
            tick_s.append(time.monotonic())
            late_s.append(rate.late_s[-1])
            step = steps.next()
            made_s[session, steps.sequence - 1] = time.monotonic()
            sender.send(step)
            sender.pump()
            if steps.sequence % round(load.hz) == 0:
                rss.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        run_s, cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
        sender.drain(DRAIN_S)
        counters = sender.counters()
        result = ActorResult(
            session=session,
            made=steps.sequence,
            sent=counters.get("sent", steps.sequence),
            left=counters["spooled"],
            record_bytes=len(encode_transition(step)),
            acknowledged_s=[link.acked_s[key] - s for key, s in made_s.items() if key in link.acked_s],
            tick_s=tick_s,
            late_s=late_s,
            cpu_s=cpu_s,
            run_s=run_s,
            backlog_drained_s=link.acked_s.get((session, load.backlog - 1), begun_s),
            adopted_s=adopted_s,
            rss_bytes=rss,
        )
        link.close()
    control.send(result)


def _sleep(load: Load, control: Connection) -> None:
    """Do nothing, at each actor's rate in turn, until told to end; send back when each tick began, and how late."""
    _settle(load)
    ticks: list[tuple[float, float]] = []
    is_ended = threading.Event()

    def sleep(number: int) -> None:
        time.sleep(number / load.actors / load.hz)
        rate = Rate(load.hz)
        while not is_ended.is_set():
            rate.wait()
            ticks.append((time.monotonic(), rate.late_s[-1]))

    sleepers = [threading.Thread(target=sleep, args=(number,)) for number in range(load.actors)]
    for sleeper in sleepers:
        sleeper.start()
    control.send("ready")
    control.recv()
    is_ended.set()
    for sleeper in sleepers:
        sleeper.join()
    control.send(ticks)


class LearnerResult(NamedTuple):
    """What the learner has."""

    position: int
    last_sequences: Mapping[str, int]
    duplicates: int
    published_s: Mapping[int, float]
    peak_rss_bytes: int


def _learn(folder: str, port: int, load: Load, weights_bytes: int, control: Connection) -> None:
    """Take in, log and acknowledge until told to end; with `weights_bytes`, publish that much each second.

    It does so in bouts of four seconds, with four seconds of rest between them.
    """
    _settle(load, is_learner=True)
    log = EpisodeLog(Path(folder) / "log", DIGEST)
    published_s: dict[int, float] = {}
    rests = 0  # seconds without weights
    params = {"w": np.random.default_rng(0).standard_normal(weights_bytes // 4).astype(np.float32)}
    with ExitStack() as stack:
        with before_others(is_wanted=load.goes_before_others):
            link = stack.enter_context(ZmqLearnerLink(DIGEST, port=port))
        link.restore(log.synced_sequences())
        intake = Intake(link, log, list, goes_before_others=load.goes_before_others)
        count, next_s = log.position, time.monotonic()
        with intake.in_background():
            spare_what_stays()
            control.send(link.address)
            is_ended = _end_of(control)
            while not is_ended.is_set():
                taken = intake.take(0.02)
                count += len(taken)
                if taken:
                    link.report(count, count)
                if weights_bytes and time.monotonic() >= next_s:
                    next_s += 1.0
                    if (len(published_s) + rests) % (2 * BOUT) >= BOUT:
                        rests += 1
                        continue
                    version = len(published_s) + 1
                    published_s[version] = time.monotonic()
                    link.publish(PolicyWeights(version, params, count))
        duplicates = link.counters()["duplicate"]
    peak = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
    result = LearnerResult(log.position, log.last_sequences(), duplicates, published_s, 1024 * peak)
    log.close()
    control.send(result)


def _end_of(control: Connection) -> threading.Event:
    """Return what is set once the pipe tells the end: to ask it in each turn would count as the program's own work."""
    is_ended = threading.Event()

    def hear() -> None:
        control.recv()
        is_ended.set()

    threading.Thread(target=hear, daemon=True).start()
    return is_ended


class Rig:
    """A learner and its actors, each a process."""

    def __init__(self, folder: Path, load: Load, *, weights_bytes: int = 0) -> None:
        self._folder, self._load, self._weights_bytes = folder, load, weights_bytes
        self._context = multiprocessing.get_context("spawn")
        self._actors: list[tuple[SpawnProcess, Connection]] = []
        self._learner: tuple[SpawnProcess, Connection] | None = None
        self._sleeper: tuple[SpawnProcess, Connection] | None = None
        self.port = 0
        self.address = ""

    def start_learner(self) -> None:
        """Start it, or start it again at the same address."""
        ours, theirs = self._context.Pipe()
        arguments = (str(self._folder), self.port, self._load, self._weights_bytes, theirs)
        process = self._context.Process(target=_learn, args=arguments, daemon=True)
        process.start()
        self._learner = process, ours
        self.address = str(_receive(ours, START_S))
        self.port = int(self.address.rsplit(":", 1)[1])

    def kill_learner(self) -> None:
        """SIGKILL."""
        assert self._learner is not None
        process = self._learner[0]
        os.kill(_pid(process), signal.SIGKILL)
        process.join()
        self._learner = None

    def learner_cpu_s(self) -> float:
        """Return the processor time that the learner has used."""
        assert self._learner is not None
        fields = Path(f"/proc/{_pid(self._learner[0])}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def start_actors(self, address: str = "") -> None:
        """Start all, and let them begin together; they connect to `address` or straight to the learner.

        Beside them a process begins that only sleeps, as often as all of them step: what makes it late is the machine.
        """
        ours, theirs = self._context.Pipe()
        sleeper = self._context.Process(target=_sleep, args=(self._load, theirs), daemon=True)
        sleeper.start()
        self._sleeper = sleeper, ours
        _receive(ours, START_S)
        for number in range(self._load.actors):
            ours, theirs = self._context.Pipe()
            arguments = (address or self.address, str(self._folder), number, self._load, theirs)
            process = self._context.Process(target=_act, args=arguments, daemon=True)
            process.start()
            self._actors.append((process, ours))
        for _, control in self._actors:
            _receive(control, START_S)
        for _, control in self._actors:
            control.send("go")

    def end_actors(self) -> list[ActorResult]:
        """Let the actors stop and deliver what they have; return what they saw."""
        for _, control in self._actors:
            control.send("end")
        results: list[ActorResult] = [_receive(control, DRAIN_S + START_S) for _, control in self._actors]
        for process, _ in self._actors:
            process.join()
        return results

    def end_sleeper(self) -> list[tuple[float, float]]:
        """Return when each tick of the sleeping process began, and how late, in s."""
        assert self._sleeper is not None
        process, control = self._sleeper
        control.send("end")
        ticks: list[tuple[float, float]] = _receive(control, START_S)
        process.join()
        return ticks

    def end_learner(self) -> LearnerResult:
        """End the learner; return what it has."""
        assert self._learner is not None
        process, control = self._learner
        control.send("end")
        result: LearnerResult = _receive(control, START_S)
        process.join()
        return result

    def close(self) -> None:
        """Kill whatever still runs."""
        for process, _ in filter(None, [*self._actors, self._learner, self._sleeper]):
            if process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(_pid(process), signal.SIGKILL)
                process.join()


@contextmanager
def rig(folder: Path, load: Load, *, weights_bytes: int = 0) -> Iterator[Rig]:
    """Yield a rig with its learner running; nothing of it outlives this."""
    made = Rig(folder, load, weights_bytes=weights_bytes)
    try:
        made.start_learner()
        yield made
    finally:
        made.close()


def _settle(load: Load, *, is_learner: bool = False) -> None:
    """Set a process of the load up."""
    logging.disable(logging.WARNING)  # late ticks are measured, not told
    if load.goes_before_others and not is_learner:
        go_before_others()


def _receive(control: Connection, timeout_s: float) -> Any:
    if not control.poll(timeout_s):
        raise TimeoutError(f"a process of the load did not answer within {timeout_s:g} s")
    return control.recv()


def _pid(process: SpawnProcess) -> int:
    assert process.pid is not None
    return process.pid
