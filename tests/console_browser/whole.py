"""The whole system but the learning: a simulated arm, actor and console as processes, a learner that stores."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from chromium_page import wait_for

from examples.ram_insertion import CONFIG
from serl_core.agents.policy import PolicyConfig, TanhGaussianPolicy
from serl_core.config import TaskConfig
from serl_core.networks.perception import perception_for
from serl_core.robots.http_client import HttpRobot
from serl_core.transport.interface import PolicyWeights
from serl_core.transport.zmq_transport import ZmqLearnerLink

START_S = 120.0
PROGRAMS = {
    "robot": "from robot_servers.main import RobotServerArgs as Args, run_robot_server as run",
    "actor": "from actors.main import ActorArgs as Args, run_actor as run",
    "console": "from actors.console.main import ConsoleArgs as Args, run_console as run",
}
HERE = Path(__file__).parent


class Play(NamedTuple):
    """What is played: the task, by its name or file, and the program that acts."""

    config: TaskConfig = CONFIG
    task: str = "ram_insertion"
    actor: str = PROGRAMS["actor"]


RAM_INSERTION = Play()


class Storing:
    """A learner's end that only keeps what it gets; its policy stands still, so that only people move the arm."""

    def __init__(self, link, config=CONFIG):
        self.stored = []  # transitions, in order
        self._link = link
        self._config = config
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def _run(self):
        self._link.publish(PolicyWeights(1, still_policy(self._config), 0))
        while not self._ending.is_set():
            got = self._link.receive(0.1)
            self.stored += got
            if got:
                self._link.acknowledge(got[-1].provenance.session, got[-1].provenance.sequence)
            self._link.report(len(self.stored), len(self.stored), False)


def still_policy(config):
    """Weights whose action is near zero."""
    policy = TanhGaussianPolicy(perception_for(config).spec, PolicyConfig())
    params = jax.tree.map(np.array, policy.init(key=jax.random.key(0)))
    return jax.tree.map(lambda leaf: np.zeros_like(leaf), params)


class Whole:
    """The running system."""

    def __init__(self, folder: Path, learner: Storing, play: Play):
        self.run = folder / "run"
        self.run.mkdir()
        (self.run / "task.json").write_text(play.config.to_json())
        self.folder = folder
        self.token_file = folder / "robot.token"
        self.audit_log = folder / "audit.jsonl"
        self.learner = learner
        self.processes = {}
        self._play = play

    def start_arm(self) -> None:
        """Start the robot server and the console."""
        options = [
            "--clock",
            "real_time",
            "--scene",
            "ram_insertion",
            "--port",
            "0",
            "--audit-log",
            str(self.audit_log),
        ]
        if os.geteuid() == 0 and os.sched_getscheduler(0) == os.SCHED_OTHER:
            options.append("--real-time-priority")  # a simulation that starves on a busy machine ends the actor
        self.address = self._serve("robot", *options)
        self.robot = HttpRobot(self.address, owner="test", token_file=self.token_file)
        self._common = ["--run", str(self.run), "--robot", self.address, "--token-file", str(self.token_file)]
        url = self._serve("console", *self._common, "--task", self._play.task, "--port", "0")
        self.token = (self.run / "console.token").read_text().strip()
        self.link = f"{url}/#token={self.token}"

    def start_actor(self, learner_address: str) -> None:
        """Start the actor, and wait until it has taken steps."""
        self._actor = (*self._common, "--task", self._play.task, "--learner", learner_address, "--teleop", "none")
        self._start("actor", *self._actor)
        deadline_s = time.monotonic() + START_S
        while not self.learner.stored:
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{ended[0]} ended: {self.log(ended[0])}"
            assert time.monotonic() < deadline_s, self.log("actor")
            time.sleep(0.05)

    def _serve(self, name: str, *options: str) -> str:
        ready = self.folder / f"{name}.url"
        if name == "robot":
            options = (*options, "--token-file", str(self.token_file))
        self._start(name, *options, "--ready-file", str(ready))
        wait_for(lambda: self.processes[name].poll() is not None or ready.exists(), f"the {name}", START_S)
        return ready.read_text().strip()

    def _start(self, name: str, *options: str) -> None:
        program = self._play.actor if name == "actor" else PROGRAMS[name]
        code = f"import tyro, logging; {program}; logging.basicConfig(level='INFO'); run(tyro.cli(Args))"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-c", code, *options], stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def is_acting(self) -> bool:
        """Whether the actor runs: a simulation that starves on a busy machine ends it."""
        return self.processes["actor"].poll() is None

    def revive(self) -> None:
        """Start the actor again if it has ended."""
        if not self.is_acting:
            assert "gone quiet" in self.log("actor"), self.log("actor")
            self._start("actor", *self._actor)

    def end(self) -> None:
        if hasattr(self, "robot"):
            self.robot.close()
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def tcp(self) -> np.ndarray:
        return np.array(self.robot.state().tcp_pose[:3])

    def records(self) -> list[dict]:
        path = self.run / "actor.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def arm_and_console(folder: Path, play: Play = RAM_INSERTION):
    """Start all but the actor; yield the system and where the learner listens; end everything afterwards."""
    with ExitStack() as stack:
        link = stack.enter_context(ZmqLearnerLink(perception_for(play.config).digest))
        learner = stack.enter_context(Storing(link, play.config))
        whole = Whole(folder, learner, play)
        stack.callback(whole.end)
        whole.start_arm()
        yield whole, link.address


@contextmanager
def running(folder: Path, play: Play = RAM_INSERTION):
    """Start everything; end it afterwards."""
    with arm_and_console(folder, play) as (whole, learner_address):
        whole.start_actor(learner_address)
        yield whole
