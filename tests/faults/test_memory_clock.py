"""Rows M and K: memory, descriptors and threads over a long time, and clocks that nobody can trust."""

import ast
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from actors.spool import Spool
from actors.spooled_sender import SpooledSender
from benchmarks.load import summary
from benchmarks.load_rig import Load, rig
from learners.intake import Intake
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.metrics_text import process_samples
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import LeaseRequest, Mode, PoseCommand, SimResetCommand
from serl_core.testing.episodes import STATE_SPEC, make_episode
from serl_core.testing.faults.clocks import JumpingClock, SteppedWallClock
from serl_core.transport.interface import Hello
from serl_core.transport.zmq_transport import ZmqActorLink, ZmqLearnerLink
from tests.faults.fault_rows import row
from tests.faults.learner_rig import Rig
from tests.faults.robot_rig import Arm, arm, children_of, served_arm, server_process, until

ROOT = Path(__file__).parents[2]
PACKAGES = ("serl_core", "actors", "learners", "robot_servers", "examples")
WALL_CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime", "strftime", "ctime"}
LOGGING_ONLY = {
    "serl_core/data/metrics_file.py": "the time of a record",
    "robot_servers/audit.py": "the time of a line",
    "actors/console/console.py": "the time that the page shows",
    "serl_core/data/relabels.py": "the time at which a person corrected a label",
    "actors/console/run_feed.py": "the age of records that were on the disk at the start, for the page",
}


def wall_clock_calls(path: Path) -> list[int]:
    """Return the lines of a source that read the wall clock."""
    tree = ast.parse(path.read_text())
    modules = {"time", "datetime", "date"}
    direct = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in WALL_CLOCKS
    }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WALL_CLOCKS:  # also one that is passed on, not called
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules:
                lines.append(node.lineno)
        elif isinstance(node, ast.Name) and node.id in direct:
            lines.append(node.lineno)
    return lines


@row("K1")
def test_the_wall_clock_is_read_for_logs_and_the_page_alone(observed, tmp_path):
    found = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := wall_clock_calls(path))
    }
    assert set(found) == set(LOGGING_ONLY), "read time.monotonic, or add a reason why a log needs it"
    trap = tmp_path / "trap.py"
    trap.write_text(
        "import time\nfrom time import time_ns as t\nimport datetime\nt()\ntime.time()\ndatetime.datetime.now()"
    )
    assert wall_clock_calls(trap) == [4, 5, 6]
    observed(
        f"{sum(map(len, found.values()))} reads of the wall clock in {len(found)} files, all for logs and the page"
    )


TELL = "import time; print(time.time())"


@row("K1")
@pytest.mark.long
def test_programs_whose_wall_clocks_step_and_differ_keep_their_rate_and_order(observed, tmp_path, seed, monkeypatch):
    clocks = {name: SteppedWallClock(tmp_path / name) for name in ("learner", "actors")}
    for name in clocks:
        (tmp_path / name).mkdir()

    def under(name: str) -> None:
        for variable, value in clocks[name].environment().items():
            monkeypatch.setenv(variable, value)

    with rig(tmp_path, Load(actors=2, hz=20, frame_bytes=500, seed=seed)) as it:
        it.kill_learner()
        clocks["learner"].step(600.0)
        under("learner")
        it.start_learner()
        under("actors")
        it.start_actors()
        begun_s = time.monotonic()
        told = []
        for offset_s in (3600.0, -3600.0, 1.0, -1.0, 1.0, -1.0, 0.0):
            clocks["actors"].step(offset_s)
            clocks["learner"].step(600.0 - offset_s)
            told.append(float(subprocess.check_output([sys.executable, "-c", TELL], text=True)) - time.time())
            time.sleep(1.0)
        ran_s = time.monotonic() - begun_s
        actors = it.end_actors()
        learner = it.end_learner()
        found = summary(actors, learner, it.end_sleeper())
    gaps_s = np.concatenate([np.diff(actor.tick_s) for actor in actors])
    observed(
        f"steps of +-1 h and +-1 s, hosts 10 min apart: {found.made} steps in {ran_s:.1f} s at "
        f"{1 / np.median(gaps_s):.1f} Hz, {found.lost_or_doubled} lost or double, ack p99 {found.ack_ms_p99:.0f} ms"
    )
    assert max(told) > 3500
    assert min(told) < -3500
    assert (found.lost_or_doubled, found.left) == (0, 0)
    assert np.median(gaps_s) == pytest.approx(0.05, abs=0.005)
    assert found.ack_ms_p99 < 1000  # nobody waits for an hour to pass


@row("K2")
def test_a_minute_that_nobody_saw_pass_ends_the_lease_and_nothing_moves(observed):
    clock = JumpingClock()
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=False), SafetyLimits(), liveness=clock)
    service.start()
    try:
        lease = service.lease(LeaseRequest(action="acquire", owner="before"))
        pose = service.state().tcp_pose
        target = (pose[0] + 0.03, *pose[1:])
        service.pose(PoseCommand(epoch=lease.epoch, pose=target))
        until(lambda: service.state().mode is Mode.TRACKING, "tracking")
        clock.jump(60.0)
        until(lambda: service.state().lease_epoch == 0, "the end of the lease")
        until(lambda: service.state().mode is Mode.HOLD, "the hold")
        held_pose = service.state().tcp_pose
        with pytest.raises(Refusal) as refused:
            service.pose(PoseCommand(epoch=lease.epoch, pose=target))
        assert refused.value.status == 409
        state = service.state()
        successor = service.lease(LeaseRequest(action="acquire", owner="after", pose_epoch=state.pose_epoch))
        assert successor.epoch != lease.epoch
        time.sleep(0.5)
        moved_m = float(np.linalg.norm(np.subtract(service.state().tcp_pose[:3], held_pose[:3])))
        observed(f"clock jumps 60 s: lease lost, hold, 409, then {1e3 * moved_m:.2f} mm of motion; a new lease works")
        assert service.state().fault is None
        assert moved_m < 2e-3
    finally:
        service.close()


@row("K2")
@pytest.mark.long
def test_after_all_programs_were_frozen_for_ten_seconds_the_arm_holds_and_training_goes_on(observed, tmp_path):
    with server_process(tmp_path, "--backend", "sim", "--clock", "real_time", "--scene", "ram_insertion") as served:
        server, url, token = served
        with Rig(tmp_path) as it:
            learner = it.learner(is_real=True)
            actor = it.real_actor(url, token)
            until(lambda: sum(logged(it).values()) > 20, "steps")
            robot = HttpRobot(url, owner="witness", token_file=token)
            before = robot.state()
            for pid in (actor.pid, learner.pid, server.pid):
                os.kill(pid, signal.SIGSTOP)
            time.sleep(10.0)
            at_stop = sum(logged(it).values())
            for pid in (server.pid, learner.pid):
                os.kill(pid, signal.SIGCONT)
                until(lambda: robot.state().mode is Mode.HOLD, "the hold")  # before its client is back
            until(lambda: robot.state().lease_epoch == 0, "the end of the lease")
            held = robot.state()
            time.sleep(0.5)
            drift_m = float(np.linalg.norm(np.subtract(robot.state().tcp_pose[:3], held.tcp_pose[:3])))
            os.kill(actor.pid, signal.SIGCONT)
            until(lambda: sum(logged(it).values()) > at_stop + 20, "steps after it")
            assert robot.state().lease_epoch not in (0, before.lease_epoch)
            for program in (actor, learner):
                assert program.status is None
            robot.close()
            actor.signal(signal.SIGTERM)
            actor.wait()
            learner.signal(signal.SIGTERM)
            learner.wait()
            sequences = it.logged()
    assert all(numbers == list(range(len(numbers))) for numbers in sequences.values())
    assert drift_m < 2e-3
    observed(
        f"hold, lease lost, drift {1e3 * drift_m:.2f} mm; then a new lease and {sum(map(len, sequences.values()))} "
        "transitions in all, none lost or double"
    )


def logged(it: Rig) -> dict[str, int]:
    """Return how much of each session is in the learner's files, while it runs."""
    sizes: dict[str, int] = {}
    for path in (it.run / "experience").rglob("*.*"):
        if path.suffix in (".journal", ".safetensors"):
            sizes[path.name] = path.stat().st_size // 500
    return sizes


@row("M1")
@pytest.mark.long
def test_a_learner_ten_times_slower_than_its_actors_does_not_grow(observed, tmp_path, seed):
    """An hour at 20 Hz is 72,000 transitions in 720 episodes; here 5,000 go by, and the learner's ring wraps 50 times.

    Resident memory moves by more than an hour may cost here, so the slope is that of what Python has allocated; the
    resident size is held against a bound of its own.
    """
    hour, warm_up, count = 72_000, 2_000, 5_000
    log = EpisodeLog(tmp_path / "log", "slow")
    buffer = ReplayBuffer(STATE_SPEC, 100)
    with ZmqLearnerLink("slow").open() as link, Spool(tmp_path / "spool", digest="slow") as spool:
        actor = ZmqActorLink(link.address)
        sender = SpooledSender(spool, actor)
        sender.connect(Hello(actor_id="a", session="session", spec_digest="slow"), 10.0)
        intake = Intake(link, log, list)
        stop = threading.Event()
        longest = 0  # queue of what the learner has not got to

        def learn() -> None:  # an update takes as long as the actor needs for ten steps
            nonlocal longest
            while not stop.is_set():
                taken = intake.take(0.02)
                longest = max(longest, len(taken))
                for step in taken:
                    buffer.insert(step)
                stop.wait(0.01)

        def send(first: int, end: int) -> None:
            for start in range(first, end, 100):
                for step in make_episode(STATE_SPEC, episode=start // 100, first_sequence=start, steps=100):
                    sender.send(step)
                    sender.pump()
                    time.sleep(0.0005)
            assert sender.drain(60.0)
            until(lambda: not intake.waiting, "the intake")

        def sizes() -> tuple[int, int]:
            """Return the least that was held in a second without transitions: (by Python, resident), in bytes."""
            found = []
            for _ in range(5):
                time.sleep(0.2)
                gc.collect()
                resident = int(next(s.value for s in process_samples() if s.name == "rss_bytes"))
                for _ in range(50):  # sqlite3 forgets cursors that are gone by the hundred
                    spool.count(0)
                    found.append((tracemalloc.get_traced_memory()[0], resident))
            return min(traced for traced, _ in found), min(resident for _, resident in found)

        with intake.in_background():
            learner = threading.Thread(target=learn)
            learner.start()
            send(0, warm_up // 2)
            tracemalloc.start()
            try:
                send(warm_up // 2, warm_up)  # what is freed and was not traced is gone
                traced, rss = sizes()
                send(warm_up, count)
                traced_end, rss_end = sizes()
            finally:
                tracemalloc.stop()
                stop.set()
                learner.join()
        actor.close()
    log.close()
    per_hour_mb = (traced_end - traced) / (count - warm_up) * hour / 1e6
    observed(
        f"{count} transitions, {longest} waiting at most, buffer wrapped {count // 100} times: {per_hour_mb:+.2f} MB/h "
        f"at 20 Hz of what Python allocates, resident {(rss_end - rss) / 1e6:+.1f} MB"
    )
    assert longest >= 2  # it was slower than its actor
    assert per_hour_mb < 1.0
    assert rss_end - rss < 16e6


def held() -> dict[str, float]:
    """Return what this process holds."""
    gc.collect()
    counts = {sample.name: sample.value for sample in process_samples()}
    children = len(children_of(os.getpid()))
    return {"fds": counts["fds"], "threads": counts["threads"], "children": children, "bytes": counts["rss_bytes"]}


def flat(before: dict[str, float], what: str) -> str:
    """Assert that no more is held than before, give or take two, once what ends has ended."""
    names = ("fds", "threads", "children")
    until(lambda: all(abs(held()[name] - before[name]) <= 2 for name in names), f"an end of {what}")
    after = held()
    return ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in names)


@row("M3")
@pytest.mark.long
def test_a_thousand_reconnects_leave_nothing_behind(observed, tmp_path):
    with ZmqLearnerLink("m3").open() as link:
        before = held()
        for number in range(1000):
            actor = ZmqActorLink(link.address)
            actor.connect(Hello(actor_id="a", session=f"s{number % 7}", spec_digest="m3"), 30.0)
            actor.close()
        told = flat(before, "links")
    observed(f"1,000 links: {told}")


@row("M3")
@pytest.mark.long
def test_a_thousand_clients_of_the_robot_server_leave_nothing_behind(observed, tmp_path):
    with served_arm(tmp_path) as (_, _service, url):
        with closing(HttpRobot(url, owner="first", token_file=tmp_path / "robot.token")) as first:
            first.health()
        before = held()  # with what the server's own thread opens as it begins
        for _ in range(1000):
            robot = HttpRobot(url, owner="client", token_file=tmp_path / "robot.token")
            robot.connect()
            robot.close()
        told = flat(before, "clients")
    observed(f"1,000 clients: {told}")


@row("M3")
def test_a_thousand_resets_leave_nothing_behind(observed):
    with arm() as made:
        before = held()
        for _ in range(100):
            reset(made)
        first = held()["bytes"]
        for _ in range(900):
            reset(made)
        grown = held()["bytes"] - first
        told = flat(before, "resets")
    observed(f"1,000 resets: {told}, resident {grown / 1e6:+.1f} MB")
    assert grown < 8e6


def reset(made: Arm) -> None:
    made.service.sim_reset(SimResetCommand(epoch=made.epoch, seed=0))
    made.backend.log.clear()
