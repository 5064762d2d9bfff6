"""Real learners and actors without an arm, started in a second and killed at will.

The children come from a process that has imported everything already (a fork server), so that a start costs
no imports. The learner is `serl learner` as it stands: its trainer, log, checkpoints and ZeroMQ link. Unless
`is_real`, one part of it is exchanged: what learns adds one to its arrays, where nothing needs to be compiled. The
actor has no arm and no policy: it makes numbered transitions for the real spool and link.
"""

import faulthandler
import itertools
import logging
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actors.main import ActorArgs, run_actor
from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from actors.veto import vetoed
from actors.veto_file import VetoFile
from learners import main as learner_main
from learners import trainer
from learners.main import LearnerArgs, run_learner
from serl_core import failpoints
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.relabels import RelabelFile
from serl_core.envs.task import load_task
from serl_core.errors import SerlError
from serl_core.testing.faults.disks import obey_permissions
from serl_core.transport.interface import Hello, LearnerStatus
from serl_core.transport.zmq_transport import ZmqActorLink
from serl_core.types import EndReason, Observation, Provenance, Transition

TASK = "ram_insertion"
CONFIG = load_task(TASK).config
SPEC = CONFIG.env_spec()
DIGEST = CONFIG.digest()
EPISODE_STEPS = 7
TRAINING_STARTS = 5  # of a learner that is not real; a real one has the default
PATIENCE_S = 60.0
MADE = "made"  # the file in which an actor notes what it has finished
VETOED = "vetoed"  # likewise of the episodes whose success it was told to veto: a line each, once that is for good
CORRECTED = "corrected"  # likewise of a stub console: a byte for each correction

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__, "tests.faults.sync_run"])
_SESSIONS = itertools.count(1)


def transition(session: str, sequence: int) -> Transition:
    """Return the `sequence`-th step of a session; its proprioception begins with its number."""

    def frame(number: int) -> Observation:
        values = np.full(SPEC.proprio_size, number % 100 / 100, np.float32)
        values[0] = number
        return Observation(proprio=values)

    is_last = sequence % EPISODE_STEPS == EPISODE_STEPS - 1
    return Transition(
        observation=frame(sequence),
        action=np.zeros(SPEC.action.size, np.float32),
        reward=float(is_last),
        discount=float(not is_last),
        next_observation=frame(sequence + 1),
        is_intervention=sequence % 3 == 0,
        end=EndReason.SUCCESS if is_last else EndReason.RUNNING,
        provenance=Provenance(session, sequence, sequence // EPISODE_STEPS, 1, sequence / 10),
    )


class Child:
    """A process of the rig, killed at the latest when it is closed."""

    def __init__(self, target: Callable[..., None], log: Path, armed: str, *args: Any) -> None:
        self.process: ForkServerProcess = _SERVER.Process(target=_child, args=(target, log, armed, args), daemon=True)
        self.process.start()
        self._log = log

    @property
    def pid(self) -> int:
        pid = self.process.pid
        assert pid is not None
        return pid

    @property
    def status(self) -> int | None:
        """The exit status; the negative of a signal; None while it lives."""
        return self.process.exitcode

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and return its status."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, f"it still lives; it said:\n{self.said()}"
        return self.process.exitcode

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()

    def close(self) -> None:
        self.kill()
        self.process.close()

    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


class Rig:
    """One run folder, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._children: list[Child] = []
        self._starts = 0

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.close()

    def learner(
        self,
        armed: str = "",
        *,
        is_real: bool = False,
        megabytes: float = 0.1,
        resume: bool = True,
        is_ready: bool = True,
        **options: Any,
    ) -> Child:
        """Start a learner on this run; wait until actors may come, unless it dies before.

        Args:
            armed: as the environment's SERL_FAILPOINT.
            is_real: it learns.
            megabytes: of the arrays that one that does not learn keeps in its checkpoints.
        """
        ready = self.run / "address"
        ready.unlink(missing_ok=True)
        given = {"batch": 8, "utd": 1, "checkpoint_every": 10, "publish_every": 5, "steps": 1_000_000} | options
        args = LearnerArgs(run=self.run, port=self.port, resume=resume, ready_file=ready, **({"task": TASK} | given))
        child = self._start(learn, "learner", armed, args, None if is_real else megabytes)
        if is_ready:
            wait_for(lambda: ready.exists() or child.status is not None)
        return child

    def actor(self, armed: str = "", *, name: str = "actor-0", period_s: float = 0.01, **options: Any) -> Child:
        """Start a stub actor under a new session."""
        session = f"{name}-{next(_SESSIONS)}"
        child = self._start(act, "actor", armed, self.run, self.port, name, session, period_s, options)
        wait_for(lambda: (self.run / f"{MADE}-{session}").exists() or child.status is not None)
        return child

    def real_actor(self, url: str, token_file: Path, armed: str = "", **options: Any) -> Child:
        """Start `serl actor` on the robot server at `url`."""
        learner = f"tcp://127.0.0.1:{self.port}"
        args = ActorArgs(task=TASK, run=self.run, robot=url, learner=learner, token_file=token_file, **options)
        return self._start(act_on_arm, "arm", armed, args)

    def console(self, armed: str = "") -> Child:
        """Start a stub console: it corrects one episode after the other until it is killed."""
        child = self._start(correct, "console", armed, self.run)
        wait_for(lambda: (self.run / CORRECTED).exists() or child.status is not None)
        return child

    def _start(self, target: Callable[..., None], kind: str, armed: str, *args: Any) -> Child:
        self._starts += 1
        child = Child(target, self.run / f"{kind}-{self._starts:03d}.log", armed, *args)
        self._children.append(child)
        return child

    def made(self) -> dict[str, int]:
        """Return how many steps each session has finished, as the actors themselves have noted."""
        counts: dict[str, int] = {}
        for path in self.run.glob(f"{MADE}-*"):
            counts[path.name.removeprefix(f"{MADE}-")] = path.stat().st_size
        return counts

    def logged(self) -> dict[str, list[int]]:
        """Return the sequences of each session in the order of the learner's log. No learner may run."""
        found: dict[str, list[int]] = {}
        for provenance, _ in self._logged_ends():
            found.setdefault(provenance.session, []).append(provenance.sequence)
        return found

    def finish(self, actor: Child, learner: Child) -> int:
        """Let an actor deliver what it has, and kill the learner; assert as `check_exactly_once` does."""
        actor.signal(signal.SIGTERM)
        assert actor.wait() == 0, actor.said()
        learner.kill()
        return self.check_exactly_once()

    def check_vetoes(self) -> int:
        """Assert that each success whose veto was for good is none in the learner's log; return how many there are."""
        ends = {(where.session, where.episode): end for where, end in self._logged_ends() if end != EndReason.RUNNING}
        promised = [
            (path.name.removeprefix(f"{VETOED}-"), int(line))
            for path in self.run.glob(f"{VETOED}-*")
            for line in path.read_text().split()
        ]
        assert {ends[episode] for episode in promised} <= {EndReason.OPERATOR_STOP}
        assert set(ends.values()) <= {EndReason.SUCCESS, EndReason.OPERATOR_STOP}
        return len(promised)

    def _logged_ends(self) -> list[tuple[Provenance, EndReason]]:
        ends = []
        with closing(EpisodeLog(self.run / "experience", DIGEST)) as log:
            for step in log.transitions():
                assert step.provenance is not None
                ends.append((step.provenance, EndReason(int(step.end))))
        return ends

    def spooled(self, name: str = "actor-0") -> int:
        """Return how many transitions wait in an actor's spool. It must not run."""
        with Spool(self.run / f"{name}.spool", digest=DIGEST) as spool:
            return spool.counters()["spooled"]

    def spooled_sequences(self, session: str, name: str = "actor-0") -> list[int]:
        """Return what of a session waits in an actor's spool. It must not run."""
        with Spool(self.run / f"{name}.spool", digest=DIGEST) as spool:
            return [waiting.sequence for waiting in spool.pending(100_000) if waiting.session == session]

    def check_exactly_once(self, *, unfinished: int = 0) -> int:
        """Assert that every finished step is logged once and in order; return how many there are.

        Args:
            unfinished: of each session at most so many more may be there: steps that an actor had not noted yet.
        """
        made, logged = self.made(), self.logged()
        for session in made.keys() | logged.keys():
            sequences = logged.get(session, [])
            assert sequences == list(range(len(sequences))), f"{session}: lost, double or out of order: {sequences}"
            assert made.get(session, 0) <= len(sequences) <= made.get(session, 0) + unfinished, session
        return sum(map(len, logged.values()))


class StubSac:
    """Stands for `Sac`: an update adds one."""

    megabytes = 0.1

    def __init__(self, *_: object) -> None:
        self._floats = int(self.megabytes * 2**20 / 4)

    def init(self, *, key: object) -> Any:
        return {"count": np.zeros(self._floats, np.float32), "policy": np.zeros(100, np.float32)}

    def update(self, state: Any, _: object) -> Any:
        count = np.require(state["count"], requirements="W")
        count[:1] += 1  # in place: large arrays must not make it slow
        return {"count": count, "policy": state["policy"] + 1}, StubMetrics({"critic_loss": 0.0})

    def policy_params(self, state: Any) -> Any:
        return {"policy": state["policy"]}

    final_policy_params = policy_params


class StubMetrics(NamedTuple):
    values: dict[str, float]


def learn(args: LearnerArgs, stub_megabytes: float | None) -> None:
    """Be a learner; as `serl learner` does, end with status 2 and one sentence after an error to mend."""
    os.nice(5)
    obey_permissions()  # where a test takes them away, for root as for anybody
    if stub_megabytes is not None:
        StubSac.megabytes = stub_megabytes
        vars(trainer)["Sac"] = StubSac
        vars(learner_main)["TrainerConfig"] = partial(trainer.TrainerConfig, training_starts=TRAINING_STARTS)
    try:
        raise SystemExit(run_learner(args))
    except SerlError as error:
        logging.error("serl learner: %s", error)
        raise SystemExit(2) from None


def act_on_arm(args: ActorArgs) -> None:
    """Be an actor; as `serl actor` does, end with status 2 and one sentence after an error to mend."""
    try:
        raise SystemExit(run_actor(args))
    except SerlError as error:
        logging.error("serl actor: %s", error)
        raise SystemExit(2) from None


def act(run: Path, port: int, name: str, session: str, period_s: float, options: dict[str, Any]) -> None:
    """Be an actor: a step each `period_s`, noted when it is finished, until SIGTERM or `steps`; then drain."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    limits = {key: options[key] for key in ("max_transitions",) if key in options}
    spool, link = Spool(run / f"{name}.spool", digest=DIGEST, **limits), ZmqActorLink(f"tcp://127.0.0.1:{port}")
    note = os.open(run / f"{MADE}-{session}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    lateness = []
    version, first_weights_s, begun_s = 0, 0.0 if "steps" in options else np.inf, time.monotonic()
    vetoes = VetoFile(run / f"{name}.vetoes")
    with spool, closing(link):
        vetoes.apply(spool)
        sender = SpooledSender(spool, link)
        if options.get("hello", True):
            _connect(sender, Hello(actor_id=name, session=session, spec_digest=DIGEST))
        due_s, sequence = time.monotonic(), 0
        sent_s: deque[float] = deque()
        acknowledged_s: list[float] = []
        while not stopped and sequence < options.get("steps", 1_000_000):
            step = transition(session, sequence)
            is_vetoed = options.get("vetoes", False) and step.end is EndReason.SUCCESS
            sender.send(step, is_held=is_vetoed)
            os.write(note, b".")
            if is_vetoed:
                _veto(run, vetoes, step)
                sender.release(step, vetoed(step))
            sequence += 1
            if options.get("hello", True):  # else there is nobody to send to: all stays in the spool
                sent_s.append(time.monotonic())
                sender.pump()
                while len(sent_s) > sender.counters()["spooled"]:
                    acknowledged_s.append(time.monotonic() - sent_s.popleft())
                if (weights := link.newest_weights(version)) is not None:
                    first_weights_s = min(first_weights_s, time.monotonic() - begun_s)
                    version = weights.version
            due_s += period_s
            time.sleep(max(due_s - time.monotonic(), 0.0))
            lateness.append(time.monotonic() - due_s)
        np.savez(
            run / f"timing-{session}.npz",
            lateness=lateness,
            acknowledged_s=acknowledged_s,
            version=version,
            first_weights_s=first_weights_s,
            lived_s=time.monotonic() - begun_s,
        )
        drained = options.get("hello", True) and sender.drain(options.get("drain_s", 20.0))
    raise SystemExit(0 if drained or options.get("may_keep") else 1)


def _veto(run: Path, vetoes: VetoFile, success: Transition) -> None:
    """Keep a person's veto, then note that it is for good."""
    assert success.provenance is not None
    vetoes.add(success.provenance.session, success.provenance.episode)
    with (run / f"{VETOED}-{success.provenance.session}").open("a") as note:
        note.write(f"{success.provenance.episode}\n")


def correct(run: Path) -> None:
    """Be a console: correct episodes of nobody, each noted once it is for good."""
    file = RelabelFile(run)
    note = os.open(run / CORRECTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while True:
        file.add("nobody", os.fstat(note).st_size, "failure")
        os.write(note, b".")


def _connect(sender: SpooledSender, hello: Hello) -> None:
    """Reach the learner, which may be away just now."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            sender.connect(hello, 1.0)
        except SerlError:
            if time.monotonic() > deadline_s:
                raise
        else:
            return


def _child(target: Callable[..., None], log: Path, armed: str, args: tuple[Any, ...]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True)
    faulthandler.dump_traceback_later(0.9 * PATIENCE_S)  # where one hangs
    failpoints.arm(armed)
    target(*args)


def free_port() -> int:
    """Return a port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that in time"
        time.sleep(0.01)


def received(rig: Rig) -> int:
    """Return how many transitions the learner says it has."""
    return _status(rig).env_steps


def trained(rig: Rig) -> int:
    """Return of how many the learner says that their updates are done."""
    return _status(rig).trained_env_steps


def _status(rig: Rig) -> LearnerStatus:
    with closing(ZmqActorLink(f"tcp://127.0.0.1:{rig.port}")) as link:
        return link.connect(Hello(actor_id="probe", session="probe", spec_digest=DIGEST), 10.0)
