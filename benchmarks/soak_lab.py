"""The soak's three programs as a user starts them and its stub actors, on a line to the learner that misbehaves.

Run as `python benchmarks/soak_lab.py FOLDER PORT` it is the soak's robot server: SIGUSR2 is the arm's reflex.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from benchmarks.soak_stub import TASK
from robot_servers.faulty_backend import FaultyBackend
from robot_servers.limits import SafetyLimits
from robot_servers.main import serve
from robot_servers.service import RobotService
from serl_core.errors import SerlError
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import Mode, RobotState
from serl_core.serving import bind
from serl_core.testing.faults.proxy import FaultyLine

PATIENCE_S = 5.0  # with an arm that does nothing
START_S, END_S = 300.0, 90.0
WARM_UP_S = 60.0  # of a program that tells its metrics, before what it holds is looked at
LOOK_S = 0.25  # between looks while a fault lasts
CAPACITY = "200"  # frames of the online buffer: it wraps more than fifty times in half an hour
CHECKPOINT_EVERY = "500"  # steps that were learned from: each few seconds
DISK_BYTES = 2**31
# glibc raises these two by itself, and then keeps tens of MB that a program has freed: what grows shall be in use.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}


class Program:
    """One of the three or a stub, started again under the same name after each death."""

    def __init__(self, name: str, arguments: list[str], folder: Path, metrics: Path) -> None:
        self.name = name
        self._arguments, self._metrics = arguments, metrics
        self._process: subprocess.Popen[bytes] | None = None
        self.lives: list[list[dict[str, float]]] = []  # what it told of itself once it was warm
        self._first_told_s: float | None = None
        self._is_killed = False
        self.log = folder / f"{name}.log"

    def start(self) -> None:
        """Start it, without waiting."""
        self._metrics.unlink(missing_ok=True)
        self._is_killed = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **MALLOC}
            )
        self.lives.append([])
        self._first_told_s = None

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def own_end(self) -> int | None:
        """Its status, when it has ended and nobody killed it."""
        return None if self._process is None or self._is_killed else self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self._process is not None and self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._is_killed = True
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
        self._first_told_s = self._first_told_s or time.monotonic()
        if time.monotonic() - self._first_told_s > WARM_UP_S:
            self.lives[-1].append(values)
        return values


class Lab:
    """The programs and what is between them.

    Args:
        folder: of all that they write.
        seed: of the line's faults and the stubs' transitions.
        stack: ends what is set up here.
        stubs: how many of them.
        stub_hz: transitions a second of each.
    """

    def __init__(self, folder: Path, seed: int, stack: ExitStack, *, stubs: int = 0, stub_hz: float = 1.0) -> None:
        self.folder = folder
        self.learner_run, self.actor_run = folder / "learner", folder / "actor"
        for run in (self.learner_run, self.actor_run):
            run.mkdir(exist_ok=True)
        self.has_small_disk = stack.enter_context(_small_disk(self.learner_run))
        self.audit = folder / "audit.jsonl"
        self._token = folder / "robot.token"
        self._robot_port, self._learner_port = _free_port(), _free_port()
        self.line = stack.enter_context(FaultyLine(self._learner_port, seed=seed))
        self.breaches: list[str] = []
        self._before: dict[str, dict[str, float]] = {}  # what the programs told before the present fault
        self._read_bytes: dict[Path, int] = {}  # of the logs
        self._shown: set[str] = set()  # "PROGRAM METRIC" that has risen since, "PROGRAM" that was silent
        self.recovered = 0  # times that the arm was latched by no fault of the list
        serl = [sys.executable, "-P", "-m", "serl_core.cli.main"]
        metrics = ["--metrics-port", "0"]
        self.robot = Program(
            "robot",
            [sys.executable, __file__, str(folder), str(self._robot_port)],
            folder,
            folder / "robot.metrics",
        )
        self.learner = Program(
            "learner",
            [*serl, "learner", "--task", TASK, "--run", str(self.learner_run), "--port", str(self._learner_port)]
            + ["--steps", "1000000000", "--utd", "1", "--batch", "32", "--capacity", CAPACITY]
            + ["--checkpoint-every", CHECKPOINT_EVERY, "--resume", *metrics],
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
        self.stubs = tuple(
            Program(
                f"stub-{number}",
                ["nice", sys.executable, str(Path(__file__).with_name("soak_stub.py")), "--number", str(number)]
                + ["--learner", f"tcp://127.0.0.1:{self.line.port}", "--run", str(self.actor_run)]
                + ["--hz", str(stub_hz), "--seed", str(seed + number)],
                folder,
                self.actor_run / f"stub-{number}.metrics.url",
            )
            for number in range(stubs)
        )
        self.programs = (self.robot, self.learner, self.actor, *self.stubs)

    def start(self) -> None:
        """Start all; wait until the actor acts."""
        for program in self.programs:
            program.start()
        self.wait_until_acting("the start")

    def wait_until_acting(self, after: str) -> float:
        """Start what has ended, until the actor makes steps and they are acknowledged; return how long that took.

        A learner that starts acknowledges what it had already: all three must tell their metrics meanwhile.
        """
        begun_s, first = time.monotonic(), None
        while True:
            self.keep_running()
            found = self.scrape()
            if time.monotonic() - begun_s > PATIENCE_S:
                self.recover_arm(found.get("robot", {}))
            told = [found.get("actor", {}).get(f"transitions_{name}", 0.0) for name in ("made", "acked")]
            if not found.keys() >= {"robot", "learner", "actor"}:
                first = None
            elif first is None or told < first:  # the actor may be another by now
                first = told
            elif all(now > before + 2 for now, before in zip(told, first, strict=True)):
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
        """Start each program that has ended, as a supervisor does; note one that nobody killed."""
        for program in self.programs:
            if not program.is_running:
                if (status := program.own_end) is not None:
                    self.breaches.append(f"the {program.name} ended by itself, with status {status}")
                program.start()

    def begin_fault(self) -> None:
        """Note what the programs tell, and what they have logged so far."""
        self._before = self.scrape()
        self._read_bytes = {path: path.stat().st_size for path in self._logs()}
        self._shown = set()

    def missing_signs(self, metrics: tuple[str, ...], line: str) -> list[str]:
        """Return which of the two the present fault has not left: one of the metrics, a line of a log."""
        text = ""
        for path in self._logs():
            with path.open("rb") as log:
                log.seek(self._read_bytes.get(path, 0))
                text += log.read().decode(errors="replace")
        missing = [] if self._shown & set(metrics) else [f"none of the metrics {', '.join(metrics)}"]
        return missing if re.search(line, text) else [*missing, f"no line like {line!r} in a log"]

    def _logs(self) -> list[Path]:
        """Return the logs of the programs, then the audit log, as far as they are there."""
        return [path for path in (*(program.log for program in self.programs), self.audit) if path.exists()]

    def watch(self, seconds: float) -> None:
        """Let the time pass, and look at the metrics."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self.scrape()
            time.sleep(min(left_s, LOOK_S))

    def scrape(self) -> dict[str, dict[str, float]]:
        """Read all metrics; hold the counters against each other."""
        found = {}
        for program in self.programs:
            values = program.scrape()
            if values is None:
                self._shown.add(program.name)
                continue
            found[program.name] = values
            before = self._before.get(program.name, {})
            self._shown |= {f"{program.name} {name}" for name, value in values.items() if value > before.get(name, 0.0)}
        for name, values in found.items():
            parts = [values.get(f"transitions_{part}", 0.0) for part in ("acked", "spooled", "quarantined", "dropped")]
            if values.get("transitions_made", 0.0) != sum(parts):  # 0 before an actor's first step
                self.breaches.append(f"{name}: made {values.get('transitions_made')} is not the sum of {parts}")
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


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for something that the arm is to do."""
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


if __name__ == "__main__":
    serve_arm(Path(sys.argv[1]), int(sys.argv[2]))
