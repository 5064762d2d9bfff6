"""`make soak`: the three programs for half an hour, with a fault every twenty seconds, and what came of it.

Run as `python benchmarks/soak.py --minutes 30 --seed 0`. Robot server (simulated arm in real time, with faults on
demand), learner and actor are processes as a user starts them; between actor and learner is a line that misbehaves. It
prints a line per fault and one at the end, and ends with status 1 if a transition was lost or doubled, if a program
holds more and more descriptors, threads or memory, or if the audit log's chain is broken.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robot_servers.audit_chain import verify
from robot_servers.faulty_backend import FaultyBackend
from robot_servers.limits import SafetyLimits
from robot_servers.main import serve
from robot_servers.service import RobotService
from serl_core.data.episode_log import EpisodeLog
from serl_core.envs.task import load_task
from serl_core.errors import SerlError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode, RobotState
from serl_core.serving import bind
from serl_core.testing.faults.proxy import FaultyLine

TASK = "ram_insertion"
DIGEST = load_task(TASK).config.digest()
PERIOD_S = 20.0  # between faults
PATIENCE_S = 5.0  # with an arm that does nothing
START_S, END_S = 300.0, 20.0
WARM_UP_S = 60.0  # of a program, before what it holds is looked at
SCRAPE_S = 2.0
ALLOWED_FDS = 6  # more than at the end of the warm-up
ALLOWED_THREADS = 4
ALLOWED_BYTES = 32 * 2**20  # in a program's life here: a replay buffer takes memory as it fills
DISK_BYTES = 512 * 2**20
# glibc raises these two by itself, and then keeps tens of MB that a program has freed: what grows shall be in use.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}


class Scrape(NamedTuple):
    """What a program told of itself."""

    at_s: float
    values: dict[str, float]


class Program:
    """One of the three, started again under the same name after each death."""

    def __init__(self, name: str, arguments: list[str], folder: Path, metrics: Path) -> None:
        self.name = name
        self._arguments, self._folder, self._metrics = arguments, folder, metrics
        self._process: subprocess.Popen[bytes] | None = None
        self.lives: list[list[Scrape]] = []
        self._started_s = 0.0

    def start(self) -> None:
        """Start it, without waiting."""
        self._metrics.unlink(missing_ok=True)
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **MALLOC}
            )
        self.lives.append([])
        self._started_s = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self._process is not None and self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def end(self) -> int:
        """SIGTERM, and wait; return its status."""
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def scrape(self) -> dict[str, float] | None:
        """Read its metrics; None while there are none."""
        try:
            url, _, token = self._metrics.read_text().strip().partition(" ")
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
            with urllib.request.urlopen(request, timeout=5) as reply:
                lines = reply.read().decode().splitlines()
        except (OSError, ValueError):
            return None
        values = {}
        for line in lines:
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name.removeprefix("serl_").removesuffix("_total")] = float(value)
        if time.monotonic() - self._started_s > WARM_UP_S:
            self.lives[-1].append(Scrape(time.monotonic(), values))
        return values


class Lab:
    """The three programs and what is between them."""

    def __init__(self, folder: Path, seed: int, stack: ExitStack) -> None:
        self.folder, self._seed = folder, seed
        self.learner_run, self.actor_run = folder / "learner", folder / "actor"
        for run in (self.learner_run, self.actor_run):
            run.mkdir(exist_ok=True)
        self.has_small_disk = stack.enter_context(_small_disk(self.learner_run))
        self.audit = folder / "audit.jsonl"
        self._token, self._url = folder / "robot.token", folder / "robot.url"
        self._robot_port, self._learner_port = _free_port(), _free_port()
        self.line = stack.enter_context(FaultyLine(self._learner_port, seed=seed))
        self.breaches: list[str] = []
        self.recovered = 0  # times that the arm was latched by no fault of the list
        serl = [sys.executable, "-P", "-m", "serl_core.cli.main"]
        metrics = ["--metrics-port", "0"]
        self.robot = Program(
            "robot",
            [sys.executable, __file__, "--serve-arm", str(folder), "--port", str(self._robot_port)],
            folder,
            folder / "robot.metrics",
        )
        self.learner = Program(
            "learner",
            [*serl, "learner", "--task", TASK, "--run", str(self.learner_run), "--port", str(self._learner_port)]
            + ["--steps", "1000000", "--utd", "1", "--batch", "32", "--checkpoint-every", "100", "--resume", *metrics],
            folder,
            self.learner_run / "learner.metrics.url",
        )
        self.actor = Program(
            "actor",
            [*serl, "actor", "--task", TASK, "--run", str(self.actor_run), "--teleop", "none", "--no-operator"]
            + ["--robot", f"http://127.0.0.1:{self._robot_port}", "--token-file", str(self._token), *metrics]
            + ["--learner", f"tcp://127.0.0.1:{self.line.port}", "--learner-timeout-s", "60"],
            folder,
            self.actor_run / "actor-0.metrics.url",
        )
        self.programs = (self.robot, self.learner, self.actor)

    def start(self) -> None:
        """Start all; wait until the actor acts."""
        for program in self.programs:
            program.start()
        self.wait_until_acting("the start")

    def wait_until_acting(self, after: str) -> float:
        """Start what has ended, until the actor makes steps and they are acknowledged; return how long that took."""
        begun_s, first = time.monotonic(), None
        while True:
            self.keep_running()
            found = self.scrape()
            if time.monotonic() - begun_s > PATIENCE_S:
                self.recover_arm(found.get("robot", {}))
            values = found.get("actor")
            acked = None if values is None else values.get("transitions_acked", 0.0)
            if acked is None:
                first = None
            elif first is None or acked < first:
                first = acked
            elif acked > first + 2:
                return time.monotonic() - begun_s
            if time.monotonic() - begun_s > START_S:
                raise SerlError(f"the actor did not come back within {START_S:g} s after {after}; see {self.folder}")
            time.sleep(0.2)

    def recover_arm(self, values: dict[str, float]) -> None:
        """Recover an arm that is latched, as a person would; a busy machine starves its control loop now and then."""
        if any(name.startswith("latch_cause") and value == 1.0 for name, value in values.items()):
            with suppress(OSError, SerlError):
                self.free()
                self.recovered += 1

    def keep_running(self) -> None:
        """Start each program that has ended, as a supervisor does."""
        for program in self.programs:
            if not program.is_running:
                program.start()

    def scrape(self) -> dict[str, dict[str, float]]:
        """Read all metrics; hold the counters against each other."""
        found = {}
        for program in self.programs:
            values = program.scrape()
            if values is not None:
                found[program.name] = values
        if values := found.get("actor"):
            parts = [values.get(f"transitions_{name}", 0.0) for name in ("acked", "spooled", "quarantined", "dropped")]
            if values.get("transitions_made", 0.0) != sum(parts):  # 0 before its first step
                self.breaches.append(f"made {values.get('transitions_made')} is not the sum of {parts}")
        return found

    def state(self) -> RobotState:
        """Return the arm's state."""
        with closing(self._client()) as robot:
            return robot.state()

    def stop_arm(self) -> None:
        """Stop the arm, as a person does."""
        with closing(self._client()) as robot:
            robot.stop()

    def _client(self) -> HttpRobot:
        return HttpRobot(f"http://127.0.0.1:{self._robot_port}", owner="soak", token_file=self._token)

    def free(self) -> None:
        """End a stop or a fault in the name of whoever has the lease, as an operator's console does."""
        state = self.state()
        path, body = "resume", dict[str, object](epoch=state.lease_epoch)
        if state.mode is Mode.FAULT:
            path, body = "recover", body | {"cause": state.fault}
        url = f"http://127.0.0.1:{self._robot_port}/v1/{path}"
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=10):
            pass

    def close(self) -> None:
        """Kill what still runs."""
        for program in self.programs:
            program.kill()


def learner_killed(lab: Lab) -> None:
    """SIGKILL of the learner."""
    lab.learner.kill()


def actor_killed(lab: Lab) -> None:
    """SIGKILL of the actor."""
    lab.actor.kill()


def robot_server_killed(lab: Lab) -> None:
    """SIGKILL of the robot server."""
    lab.robot.kill()


def both_killed(lab: Lab) -> None:
    """SIGKILL of learner and actor."""
    lab.learner.kill()
    lab.actor.kill()


def line_stalled(lab: Lab) -> None:
    """Five seconds in which nothing passes between actor and learner."""
    lab.line.faults.is_black_hole = True
    time.sleep(5.0)
    lab.line.faults.is_black_hole = False


def line_cut(lab: Lab) -> None:
    """All connections between actor and learner end by a reset."""
    lab.line.reset()


def line_damaged(lab: Lab) -> None:
    """Two seconds in which bits flip on the way to the learner."""
    lab.line.faults.flip_chance = 0.2
    time.sleep(2.0)
    lab.line.faults.flip_chance = 0.0
    lab.line.reset()


def stopped_and_resumed(lab: Lab) -> None:
    """A person stops the arm, and lets it go on."""
    lab.stop_arm()
    time.sleep(1.0)
    lab.free()


def reflex(lab: Lab) -> None:
    """The arm's own reflex, and a person who recovers it."""
    lab.robot.signal(signal.SIGUSR2)
    _until(lambda: lab.state().mode is Mode.FAULT)
    time.sleep(1.0)
    lab.free()


def actor_suspended(lab: Lab) -> None:
    """SIGSTOP of the actor for four seconds: longer than its lease."""
    lab.actor.signal(signal.SIGSTOP)
    time.sleep(4.0)
    lab.actor.signal(signal.SIGCONT)


def learner_suspended(lab: Lab) -> None:
    """SIGSTOP of the learner for four seconds: longer than its heartbeat."""
    lab.learner.signal(signal.SIGSTOP)
    time.sleep(4.0)
    lab.learner.signal(signal.SIGCONT)


def disk_full(lab: Lab) -> None:
    """Five seconds without room on the learner's disk."""
    filler = lab.learner_run / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**20))
            file.flush()
    time.sleep(5.0)
    filler.unlink()


FAULTS = (
    learner_killed,
    actor_killed,
    robot_server_killed,
    both_killed,
    line_stalled,
    line_cut,
    line_damaged,
    stopped_and_resumed,
    reflex,
    actor_suspended,
    learner_suspended,
    disk_full,
)


class Outcome(NamedTuple):
    """What a soak came to."""

    faults: int
    recovered: int  # times that a person had to recover the arm, besides the reflexes of the list
    made: int  # by the actor
    logged: int
    lost: int
    doubled: int
    sessions: int
    audit_lines: int
    most_fds_grown: int
    most_threads_grown: int
    mb_grown: dict[str, float]  # of each program, at most over its lives
    problems: list[str]


def soak(folder: Path, seconds: float, seed: int, say: Callable[[str], None], period_s: float = PERIOD_S) -> Outcome:
    """Let the programs run with a fault each `period_s`; every fault of the list comes before any comes again."""
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        lab = Lab(folder, seed, stack)
        stack.callback(lab.close)
        lab.start()
        faults = [fault for fault in FAULTS if fault is not disk_full or lab.has_small_disk]
        end_s, count, due = time.monotonic() + seconds, 0, list[Callable[[Lab], None]]()
        while time.monotonic() < end_s:
            next_s = time.monotonic() + period_s
            due = due or [faults[i] for i in rng.permutation(len(faults))]
            fault = due.pop()
            count += 1
            fault(lab)
            took_s = lab.wait_until_acting(fault.__name__)
            say(f"{count:3d} {fault.__name__:20} {fault.__doc__} Acting again after {took_s:.1f} s.")
            while time.monotonic() < min(next_s, end_s):
                time.sleep(SCRAPE_S)
                lab.keep_running()
                lab.recover_arm(lab.scrape().get("robot", {}))
        problems = list(lab.breaches)
        for program in (lab.actor, lab.learner, lab.robot):
            if status := program.end():
                problems.append(f"the {program.name} ended with status {status} when asked to")
        return _outcome(lab, count, problems)


def _outcome(lab: Lab, faults: int, problems: list[str]) -> Outcome:
    made = _made(lab.actor_run / "actor.jsonl")
    logged: dict[str, list[int]] = {}
    with closing(EpisodeLog(lab.learner_run / "experience", DIGEST)) as log:
        for step in log.transitions():
            assert step.provenance is not None
            logged.setdefault(step.provenance.session, []).append(step.provenance.sequence)
    doubled = sum(len(numbers) - len(set(numbers)) for numbers in logged.values())
    lost = sum(len(set(range(max(numbers) + 1)) - set(numbers)) for numbers in logged.values())
    lost += sum(max(count - len(logged.get(session, [])), 0) for session, count in made.items())
    if any(numbers != sorted(numbers) for numbers in logged.values()):
        problems.append("a session is not logged in its order")
    verdict = verify(lab.audit)
    if verdict.broken is not None:
        problems.append(f"audit log: {verdict.broken}")
    fds, threads, size = (_grown(lab.programs, name) for name in ("fds", "threads", "rss_bytes"))
    for name, grown, allowed in (
        ("descriptors", fds, ALLOWED_FDS),
        ("threads", threads, ALLOWED_THREADS),
        ("bytes of memory", size, ALLOWED_BYTES),
    ):
        if grown > allowed:
            problems.append(f"a program holds {grown:.0f} more {name} than after its warm-up")
    if lost or doubled:
        problems.append(f"{lost} transitions lost, {doubled} doubled")
    return Outcome(
        faults=faults,
        recovered=lab.recovered,
        made=sum(made.values()),
        logged=sum(map(len, logged.values())),
        lost=lost,
        doubled=doubled,
        sessions=len(logged),
        audit_lines=verdict.lines,
        most_fds_grown=int(fds),
        most_threads_grown=int(threads),
        mb_grown={program.name: round(_grown((program,), "rss_bytes") / 2**20, 1) for program in lab.programs},
        problems=problems,
    )


def _made(path: Path) -> dict[str, int]:
    """Return how many steps each session had made when it last told; a killed one made up to a second's more."""
    made: dict[str, int] = {}
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError, KeyError):
            record = json.loads(line)
            made[record["session"]] = max(made.get(record["session"], 0), int(record["env_steps"]))
    return made


def _grown(programs: tuple[Program, ...], name: str) -> float:
    """Return by how much the last third of a life holds more than its first third, at most over all lives."""
    grown = 0.0
    for life in (life for program in programs for life in program.lives if len(life) >= 6):
        values = [scrape.values[name] for scrape in life if name in scrape.values]
        third = len(values) // 3
        grown = max(grown, float(np.median(values[-third:]) - np.median(values[:third])))
    return grown


def _until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise SerlError("the arm did not do what it was told to")
        time.sleep(0.05)


def _free_port() -> int:
    with bind("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Put a small file system below `folder` where that is allowed, so that it can be filled; yield whether it is."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def serve_arm(folder: Path, port: int) -> None:
    """Serve the simulated arm; SIGUSR2 is its reflex."""
    from robot_servers.sim.backend import MujocoBackend
    from robot_servers.tokens import load_or_create_tokens

    backend = FaultyBackend(MujocoBackend("ram_insertion", is_lockstep=False))
    backend.log = deque(maxlen=1)  # nobody looks at it here, and it grows by 1 MB/s
    signal.signal(signal.SIGUSR2, lambda *_: backend.reflex())
    tokens = load_or_create_tokens(folder / "robot.token")
    service = RobotService(backend, SafetyLimits(), audit_log=folder / "audit.jsonl")
    token = (folder / "robot.token").read_text().strip()
    with bind("127.0.0.1", port) as listener:
        (folder / "robot.metrics").write_text(f"http://127.0.0.1:{port}/v1/metrics {token}\n")
        serve(service, tokens, listener, ready_file=folder / "robot.url")


def main() -> int:
    """Run, print, and return 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="folder that is kept; without it a temporary one")
    parser.add_argument("--serve-arm", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_arm is not None:
        serve_arm(args.serve_arm, args.port)
        return 0
    with ExitStack() as stack:
        folder = args.run or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serl-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        outcome = soak(folder, 60 * args.minutes, args.seed, lambda line: print(line, flush=True))
    print(json.dumps(outcome._asdict()))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
