"""An operator and a running actor, over real sockets, on the simulated arm in real time."""

import contextlib
import json
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import actors
from actors.main import ActorArgs, RecordArgs, run_actor, run_record
from actors.teleop.choice import TeleopKind
from examples.ram_insertion import CONFIG
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import serving
from serl_core.agents.policy import PolicyConfig, TanhGaussianPolicy
from serl_core.data.episode_log import load_episodes
from serl_core.errors import ConfigError
from serl_core.operator.messages import Control, Label, RecordProgress, Recover, Resume, ResumeRobot, StepReport
from serl_core.robots.http_client import HttpRobot
from serl_core.transport.interface import PolicyWeights
from serl_core.transport.zmq_transport import ZmqLearnerLink
from serl_core.types import EndReason
from tests.actors.fake_console import FakeConsole, teleop
from tests.actors.teleop.fake_hidapi import eventually

TOKEN = "t" * 64
UP = (0.0, 0.0, -0.3, 0.0, 0.0, 0.0)  # the tool points down
STEPPING = (Control.POLICY, Control.HUMAN)


@pytest.fixture(scope="module")
def robot():
    with serving(RobotService(MujocoBackend("ram_insertion", is_lockstep=False)), TOKEN) as url:
        yield url


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


class Person(threading.Thread):
    """Does something beside the program under test; what goes wrong is raised at the end."""

    def __init__(self, what):
        super().__init__()
        self._what = what
        self._error = None

    def run(self):
        try:
            self._what()
        except BaseException as error:
            self._error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.join()
        if self._error is not None:
            raise self._error


def push(console, until, *, operator="ann", label=None, first=lambda: None):
    """Push at 30 Hz until something is heard; label each episode in which that steered.

    `first` is done before each push.

    A machine that is busy elsewhere may let go for us: then resume.
    """
    labelled = set()

    def once():
        first()
        console.say(teleop(UP, operator=operator))
        time.sleep(1 / 30)

    def is_it(said):
        if "connection to operator" in getattr(said, "text", ""):
            console.say(Resume(operator=operator))
        if label is not None and is_at(Control.HUMAN)(said) and said.episode not in labelled and said.end == "running":
            labelled.add(said.episode)
            console.say(Label(operator=operator, label=label, session=said.session, episode=said.episode))
        return until(said)

    return console.await_(is_it, meanwhile=once)


def is_at(*controls):
    return lambda said: isinstance(said, StepReport) and said.control in controls


def newest(console):
    console.listen()
    return next(said for said in reversed(console.heard) if isinstance(said, StepReport))


def now(console):
    """Return who has control now."""
    return newest(console).control


class Learner:
    """Publishes one policy and acknowledges whatever comes until somebody says that it is enough."""

    def __init__(self):
        self.received = []
        self.is_enough = threading.Event()
        policy = TanhGaussianPolicy(CONFIG.env_spec(), PolicyConfig())
        self._params = jax.tree.map(np.array, policy.init(key=jax.random.key(0)))

    def learn(self, link):
        link.publish(PolicyWeights(1, self._params, 0))
        while not self.is_enough.is_set() or link.counters()["connected"]:
            got = link.receive(0.1)
            self.received.extend(got)
            if got:
                link.acknowledge(got[-1].provenance.session, got[-1].provenance.sequence)
            link.report(len(self.received), len(self.received), self.is_enough.is_set())


def test_an_operator_steers_is_lost_resumes_frees_the_robot_and_labels(robot, token_file, tmp_path):
    learner = Learner()
    file = tmp_path / "actor-0.operator"
    reports = {}

    def operate():
        try:
            eventually(file.exists)
            with FakeConsole(file) as ann, FakeConsole(file) as bob, contextlib.closing(observer()) as arm:
                found = json.loads(file.read_text())
                assert (found["robot"], found["server"]) == (robot, arm.health().server)
                ann.await_control(Control.POLICY)
                reports["steered"] = push(ann, is_at(Control.HUMAN))
                before_z_m = arm.state().tcp_pose[2]
                push(ann, lambda said: arm.state().tcp_pose[2] > before_z_m + 0.002)
                push(
                    bob,
                    lambda said: "ann is steering; bob watches" in getattr(said, "text", ""),
                    operator="bob",
                    first=lambda: ann.say(teleop(UP)),
                )
                push(ann, is_at(Control.HUMAN))
                # Ann's tab freezes.
                eventually(lambda: now(bob) is Control.PAUSED)
                assert any("connection to operator ann lost" in getattr(said, "text", "") for said in bob.heard)
                held = arm.state()
                assert np.linalg.norm(np.subtract(held.reference_pose[:3], held.tcp_pose[:3])) < 0.01
                bob.say(Resume(operator="bob"))
                eventually(lambda: now(bob) is Control.POLICY)
                arm.stop()
                bob.await_control(Control.STOPPED)
                bob.say(Recover(operator="bob", cause="nothing"))
                bob.await_notice("the robot has no fault")
                bob.say(ResumeRobot(operator="bob"))
                bob.await_notice("bob has resumed the robot")
                labelled = set()

                def label():
                    report = newest(bob)
                    if report.control is Control.POLICY and report.episode not in labelled:
                        labelled.add(report.episode)
                        episode = {"session": report.session, "episode": report.episode}
                        bob.say(Label(operator="bob", label="success", **episode))

                reports["labelled"] = bob.await_(lambda said: getattr(said, "end", "") == "success", meanwhile=label)
        finally:
            learner.is_enough.set()

    def observer():
        return HttpRobot(robot, owner="observer", token_file=token_file)

    with ZmqLearnerLink(CONFIG.digest()) as link, Person(lambda: learner.learn(link)), Person(operate):
        args = ActorArgs(
            task="ram_insertion",
            run=tmp_path,
            robot=robot,
            learner=link.address,
            token_file=token_file,
            teleop=TeleopKind.NONE,
        )
        assert run_actor(args) == 0
    assert not file.exists()
    assert reports["steered"].operator == "ann"
    human = [transition for transition in learner.received if transition.is_intervention]
    assert human
    # In whole steps just what she pushed; those in which she began or let go are the policy's in part.
    assert min(transition.action[2] for transition in human) == pytest.approx(UP[2])
    labelled = [t for t in learner.received if t.provenance.episode == reports["labelled"].episode]
    assert (labelled[-1].end, labelled[-1].reward, labelled[-1].discount) == (EndReason.SUCCESS, 1.0, 0.0)
    assert [t.provenance.sequence for t in learner.received] == list(range(len(learner.received)))


def test_a_person_at_the_page_records_demonstrations_and_throws_one_away(robot, token_file, tmp_path):
    file = tmp_path / "run" / "recorder.operator"
    heard = []

    def operate():
        eventually(file.exists)
        with FakeConsole(file) as console:
            console.await_control(Control.WAITING)  # for a person
            push(console, lambda said: getattr(said, "failed", 0) == 1, label="discard")
            push(console, is_last, label="success")
            heard.extend(console.heard)

    def is_last(said):
        return isinstance(said, RecordProgress) and said.kept == 1

    with Person(operate):
        args = RecordArgs(
            task="ram_insertion",
            out=tmp_path / "demos",
            count=1,
            robot=robot,
            token_file=token_file,
            teleop=TeleopKind.BROWSER,
            run=tmp_path / "run",
        )
        assert run_record(args) == 0
    (episode,) = load_episodes(tmp_path / "demos")
    assert episode[-1].end is EndReason.SUCCESS
    assert all(step.is_intervention for step in episode)
    progress = [(said.kept, said.failed) for said in heard if isinstance(said, RecordProgress)]
    assert progress == [(0, 0), (0, 1), (1, 1)]


def test_the_page_needs_a_link():
    with pytest.raises(ConfigError, match="--teleop browser: the page finds the recorder by a folder; give --run"):
        RecordArgs(task="ram_insertion", out="x", teleop=TeleopKind.BROWSER)
    with pytest.raises(ConfigError, match="--teleop browser: needs the operators that --no-operator keeps out"):
        ActorArgs(task="ram_insertion", run="x", teleop=TeleopKind.BROWSER, operator=False)


def test_a_person_at_the_page_is_too_slow_for_lockstep(token_file, tmp_path):
    with serving(RobotService(MujocoBackend("ram_insertion", is_lockstep=True)), TOKEN) as url:
        args = RecordArgs(
            task="ram_insertion",
            out=tmp_path,
            robot=url,
            token_file=token_file,
            teleop=TeleopKind.BROWSER,
            run=tmp_path,
        )
        with pytest.raises(ConfigError, match=r"--teleop browser: .* lockstep, faster than a person"):
            run_record(args)


def test_a_program_that_lets_operators_in_ends_with_the_threads_that_hear_them():
    """Only the actor did: `serl record` and `serl classifier record` moved the arm on, deaf to the page."""
    root = Path(actors.__file__).parents[1]
    sources = [path.read_text() for folder in ("actors", "serl_core/cli") for path in (root / folder).rglob("*.py")]
    programs = [text for text in sources if " operator_access(\n" in text and "def operator_access(" not in text]
    assert len(programs) == 2  # of the actor and its recorder, and of the recorder of frames
    assert all(source.count("dying_together()") >= source.count(" operator_access(\n") for source in programs)
