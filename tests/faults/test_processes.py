"""Rows P: whatever is killed, frozen or told to stop, nothing is lost or doubled, and nobody lives on by halves."""

import ast
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import serl_core
from learners.checkpoints import Checkpoints
from learners.relabelling import APPLIED
from robot_servers.limits import SafetyLimits
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import serving
from serl_core.data.metrics_file import read_metrics
from serl_core.data.relabels import FILE as RELABELS
from serl_core.data.relabels import RelabelFile
from serl_core.failpoints import find_failpoints
from serl_core.robots.messages import Mode
from serl_core.threads import STATUS
from tests.faults import kill_points
from tests.faults.fault_rows import row
from tests.faults.learner_rig import CORRECTED, MADE, TRAINING_STARTS, Child, Rig, received, trained, wait_for

ROOT = Path(serl_core.__file__).parents[1]
PROGRAMS = [ROOT / name for name in ("actors", "learners", "serl_core")]
KILLED = -signal.SIGKILL
TOKEN = "t" * 64
PERIOD_S = 0.05

Say = Callable[[str], None]

RANDOM_KILLS = 50


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def test_a_failpoint_has_one_place_and_somebody_who_dies_there() -> None:
    found = [place.name for place in find_failpoints(PROGRAMS)]
    assert len(found) == len(set(found)), "two points of one name"
    assert sorted(found) == sorted({armed.partition(":")[0] for armed in kill_points.ALL}), "see kill_points.py"
    files = {place.file for place in find_failpoints(PROGRAMS)}
    writers = {file for folder in PROGRAMS for file in folder.rglob("*.py") if "fsync(" in file.read_text()}
    assert writers <= files | {ROOT / "serl_core" / "data" / "episode_log.py"}, "a file is synced without a failpoint"


@pytest.mark.long
@pytest.mark.timeout(600)
@row("P1")
def test_a_learner_killed_at_every_point_loses_nothing_and_the_actor_goes_on(
    rig: Rig, seed: int, observed: Say
) -> None:
    rng = np.random.default_rng(seed)
    control = rig.actor(name="control", period_s=PERIOD_S, hello=False, may_keep=True)  # nobody it knows is killed
    schedule = (*kill_points.LEARNER, *kill_points.LEARNER_CORRECTED)
    learner = rig.learner(resume=False)
    actor = rig.actor(period_s=PERIOD_S)
    learner.kill()
    people, corrections = RelabelFile(rig.run), 0
    for armed in schedule:
        if armed in kill_points.LEARNER_CORRECTED:
            session = next(name for name in rig.made() if name.startswith("actor-0"))
            corrections = 1 + people.add(session, corrections, "failure").number
        learner = rig.learner(armed, is_ready=False)
        assert learner.wait() == KILLED, f"{armed} was never passed:\n{learner.said()}"
    for _ in range(RANDOM_KILLS):
        learner = rig.learner(is_ready=bool(rng.random() < 0.5))  # else it is killed while it starts
        time.sleep(rng.uniform(0.0, 0.5))
        learner.kill()
    learner = rig.learner()
    wait_for(lambda: len(told_corrections(rig)) == corrections)
    actor.signal(signal.SIGTERM)
    assert actor.wait() == 0, actor.said()
    learner.kill()
    control.signal(signal.SIGTERM)
    assert control.wait() == 0, control.said()
    for path in rig.run.glob(f"{MADE}-control-*"):
        path.unlink()  # it sends nothing
    count = rig.check_exactly_once()
    assert rig.spooled() == 0
    applied = [json.loads(line)["number"] for line in (rig.run / APPLIED).read_text().splitlines()]
    assert applied == told_corrections(rig) == list(range(corrections))
    timing, of_control = (np.load(next(rig.run.glob(f"timing-{name}-*.npz"))) for name in ("actor-0", "control"))
    p99, control_p99 = step_p99(timing["lateness"]), step_p99(of_control["lateness"])
    observed(
        f"{RANDOM_KILLS} random kills, {len(schedule)} named: 0 lost, 0 double of {count} transitions and "
        f"{corrections} corrections; "
        f"actor's step p99 {p99:.2f} periods, {control_p99:.2f} of one without a learner"
    )
    assert p99 < max(1.2, 1.2 * control_p99)  # on a busy machine no actor is on time
    assert timing["version"] > len(schedule)  # it kept getting weights


def told_corrections(rig: Rig) -> list[int]:
    """Return the numbers of the corrections that the learner has told of."""
    return [record["number"] for record in read_metrics(rig.run / "metrics.jsonl") if record["kind"] == "relabel"]


def step_p99(lateness_s: NDArray[np.float64]) -> float:
    """Return the 99 % quantile of the time from one step to the next, in periods."""
    return float(np.quantile(np.diff(lateness_s) + PERIOD_S, 0.99)) / PERIOD_S


@row("P1")
def test_a_killed_learner_goes_on_with_the_same_transitions(rig: Rig, seed: int, observed: Say) -> None:
    """The quick form."""
    rng = np.random.default_rng(seed)
    learner = rig.learner(resume=False)
    actor = rig.actor()
    for _ in range(2):
        time.sleep(rng.uniform(0.1, 0.4))
        learner.kill()
        learner = rig.learner()
    observed(f"2 quick random kills: {rig.finish(actor, learner)} transitions, 0 lost, 0 double")


@row("P1")
def test_a_learner_killed_while_it_writes_its_policy_finishes_when_it_is_resumed(rig: Rig, observed: Say) -> None:
    learner = rig.learner(steps=30, resume=False)
    actor = rig.actor(steps=60, may_keep=True, drain_s=0.2)
    assert learner.wait() == 0, learner.said()
    actor.wait()
    (rig.run / "policy.safetensors").unlink()
    for armed in kill_points.LEARNER_AT_ITS_END:
        child = rig.learner(armed, steps=30, is_ready=False)
        assert child.wait() == KILLED, child.said()
    assert rig.learner(steps=30).wait() == 0
    rig.check_exactly_once()
    observed(f"{len(kill_points.LEARNER_AT_ITS_END)} points of the final policy: finished after a resume")


@row("P3")
def test_a_killed_actor_loses_the_unfinished_step_at_most(rig: Rig, seed: int, observed: Say) -> None:
    rng = np.random.default_rng(seed)
    learner = rig.learner(resume=False)
    for armed in kill_points.ACTOR:
        actor = rig.actor(armed, vetoes=True)
        assert actor.wait() == KILLED, f"{armed} was never passed:\n{actor.said()}"
    for _ in range(4):
        actor = rig.actor(vetoes=True)
        time.sleep(rng.uniform(0.1, 0.5))
        actor.kill()
    actor = rig.actor(steps=5)
    assert actor.wait() == 0, actor.said()
    learner.kill()
    count, vetoes = rig.check_exactly_once(unfinished=1), rig.check_vetoes()
    assert rig.spooled() == 0
    assert vetoes > 0
    observed(
        f"4 random kills, {len(kill_points.ACTOR)} named: {count} transitions, at most the unfinished step lost; "
        f"{vetoes} vetoes, 0 lost"
    )


@row("P3")
def test_a_killed_console_loses_no_correction(rig: Rig, seed: int, observed: Say) -> None:
    rng = np.random.default_rng(seed)
    for armed in kill_points.CONSOLE:
        console = rig.console(armed)
        assert console.wait() == KILLED, f"{armed} was never passed:\n{console.said()}"
    for _ in range(5):
        console = rig.console()
        time.sleep(rng.uniform(0.0, 0.1))
        console.kill()
    promised = (rig.run / CORRECTED).stat().st_size
    kept = [line.episode for line in RelabelFile(rig.run).read()]
    assert len(kept) == len((rig.run / RELABELS).read_bytes().splitlines())  # none is torn
    assert promised > 0
    # What was written and not noted is corrected again: a label may stand twice, and is none the less the same.
    assert sorted(set(kept)) == list(range(len(set(kept))))
    assert promised <= len(set(kept)) <= promised + 1
    assert len(kept) <= promised + 8
    observed(f"5 random kills of a console, {len(kill_points.CONSOLE)} named: {promised} corrections, 0 lost")


@pytest.mark.long
@pytest.mark.timeout(600)
@row("P4")
def test_both_killed_lose_the_unfinished_step_at_most(rig: Rig, seed: int, observed: Say) -> None:
    rng = np.random.default_rng(seed)
    rig.learner(resume=False).kill()
    for _ in range(10):
        learner, actor = rig.learner(), rig.actor()
        pair = [learner, actor] if rng.random() < 0.5 else [actor, learner]
        for child, pause_s in zip(pair, rng.uniform(0.0, 0.6, 2), strict=True):
            time.sleep(pause_s)
            child.kill()
    learner, actor = rig.learner(), rig.actor(steps=5)
    assert actor.wait() == 0, actor.said()
    learner.kill()
    count = rig.check_exactly_once(unfinished=1)
    observed(f"20 kills: {count} transitions of {len(rig.made())} sessions, 0 lost, 0 double")


@contextmanager
def robot(tmp_path: Path) -> Iterator[tuple[RobotService, str, Path]]:
    """Serve a simulated arm in lockstep; yield it, its address and its token's file."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True), SafetyLimits())
    with serving(service, TOKEN) as url:
        yield service, url, token_file


def let_time_pass(service: RobotService, duration_s: float) -> None:
    """Do what a clock does by itself where there is no lockstep."""
    backend = service.backend
    assert isinstance(backend, MujocoBackend)
    backend.advance(duration_s)


def is_held_after(service: RobotService, duration_s: float) -> bool:
    let_time_pass(service, duration_s)
    return service.state().mode is Mode.HOLD


@pytest.mark.long
@row("P3")
@pytest.mark.parametrize("armed", kill_points.ACTOR_ON_ARM)
def test_an_actor_killed_on_its_arm_is_followed_by_another(rig: Rig, tmp_path: Path, armed: str, observed: Say) -> None:
    with robot(tmp_path) as (service, url, token_file):
        learner = rig.learner(resume=False, is_real=True)
        killed = rig.real_actor(url, token_file, armed=armed, max_lead_steps=10_000)
        assert killed.wait() == KILLED, killed.said()
        wait_for(lambda: is_held_after(service, 0.5))  # a way to the start ends before
        actor = rig.real_actor(url, token_file, max_lead_steps=10_000)
        stamp_s = service.state().stamp_s
        wait_for(lambda: service.state().stamp_s > stamp_s + 2.0)
        actor.signal(signal.SIGTERM)
        assert actor.wait() == 0, actor.said()
        learner.kill()
    made: dict[str, int] = {}
    for record in read_metrics(rig.run / "actor.jsonl"):
        made[record["session"]] = max(record["env_steps"], made.get(record["session"], 0))
    counts = []
    for session, logged in rig.logged().items():
        everything = sorted({*logged, *rig.spooled_sequences(session)})
        assert logged == list(range(len(logged)))
        assert everything == list(range(len(everything)))
        assert len(everything) >= made.get(session, 0)
        counts.append(len(everything))
    assert len(counts) == 2
    said = f"{counts[0]} and {counts[1]} transitions, 0 lost, 0 double"
    observed(f"{armed.partition(':')[0]}: arm in hold; the next one acts: {said}")


@row("P2")
def test_an_actor_without_a_learner_warns_and_then_holds(rig: Rig, tmp_path: Path, observed: Say) -> None:
    room = 40
    with robot(tmp_path) as (service, url, token_file):
        learner = rig.learner(resume=False, is_real=True)
        actor = rig.real_actor(url, token_file, spool_transitions=room, max_lead_steps=10_000)
        wait_for(lambda: "waiting for the learner's first weights" in actor.said())
        wait_for(lambda: service.state().stamp_s > 1.0)
        learner.kill()
        wait_for(lambda: "the spool is full, the arm holds" in actor.said())
        said = actor.said()
        assert said.index("50 % full") < said.index("80 % full") < said.index("the spool is full")
        stamp_s = service.state().stamp_s
        time.sleep(1.0)
        assert service.state().stamp_s == stamp_s  # in lockstep: not one more command
        let_time_pass(service, 0.5)
        assert service.state().mode is Mode.HOLD
        assert actor.status is None
        learner = rig.learner(is_real=True)
        wait_for(lambda: received(rig) > room)
        actor.signal(signal.SIGTERM)
        assert actor.wait() == 0, actor.said()
        learner.kill()
    with Rig(tmp_path) as after:
        ((session, logged),) = after.logged().items()
        waiting = after.spooled_sequences(session)
    everything = sorted({*logged, *waiting})
    observed(f"warned at 50 and 80 % of {room}, held at 100 %; went on with a learner: {len(everything)} in order")
    assert logged == list(range(len(logged)))
    assert everything == list(range(len(everything)))
    assert len(everything) > room >= len(waiting)


# An exception in a thread ends its program (`serl_core.threads`), except in threads that catch all: these.
THREADS_THAT_CATCH_ALL = {
    "serl_core/transport/socket_thread.py",  # tells whoever uses the link next: the intake, or the control loop
    "actors/cameras/threaded.py",  # opens its camera again; the loop sees the age of the frame
    "actors/teleop/puck_thread.py",  # likewise
}
CATCHES_ALL = re.compile(r"except Exception\b")
NOT_THEIRS = ("actors/console/", "serl_core/testing/")


def test_a_thread_of_a_learner_or_an_actor_ends_its_program_or_is_known_not_to() -> None:
    found = set()
    for file in (file for folder in PROGRAMS for file in folder.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        if any(ast.unparse(call.func) == "threading.Thread" for call in calls) and CATCHES_ALL.search(file.read_text()):
            found.add(str(file.relative_to(ROOT)))
    assert {name for name in found if not name.startswith(NOT_THEIRS)} == THREADS_THAT_CATCH_ALL


def seconds_to_end(child: Child) -> float:
    """Wait for the end of a process whose failpoint raises; return how long after that it came."""
    child.wait()
    end_s = time.monotonic()
    (raised_s, *_) = re.findall(r"was armed to raise, at ([0-9.]+) s", child.said())
    return end_s - float(raised_s)


LEARNERS = ["learner.updated:4", "learner.received:3", "learner.checkpoint_begun:1", "link.learner:9"]


@row("P5")
@pytest.mark.parametrize("armed", LEARNERS)
def test_a_learner_ends_with_any_of_its_threads(rig: Rig, armed: str, observed: Say) -> None:
    learner = rig.learner(f"{armed}:raise", resume=False)
    rig.actor()
    took_s = seconds_to_end(learner)
    observed(f"learner, {armed.partition(':')[0]}: status {learner.status} after {took_s:.2f} s")
    assert learner.status not in (0, None)
    assert took_s < 1.0


@row("P5")
@pytest.mark.parametrize("armed", ["spool.append:5", "link.actor:5", "robot.renew_lease:1"])
def test_an_actor_ends_with_the_threads_it_acts_by(rig: Rig, tmp_path: Path, armed: str, observed: Say) -> None:
    with robot(tmp_path) as (_, url, token_file):
        rig.learner(resume=False, is_real=True)
        actor = rig.real_actor(url, token_file, armed=f"{armed}:raise", max_lead_steps=10_000)
        took_s = seconds_to_end(actor)
        observed(f"actor, {armed.partition(':')[0]}: status {actor.status} after {took_s:.2f} s")
        assert actor.status not in (0, None)
        assert actor.status == STATUS or not armed.startswith("robot")
        assert took_s < 1.0


@row("P6")
def test_a_second_learner_on_the_same_folder_refuses(rig: Rig, observed: Say) -> None:
    first = rig.learner(resume=False)
    actor = rig.actor()
    for resume in (True, False):
        second = rig.learner(resume=resume, is_ready=False)
        assert second.wait() == 2
        assert "another learner writes to" in second.said()
    assert first.status is None
    observed(f"status 2, 'another learner writes to'; the first went on: {rig.finish(actor, first)} transitions")


@row("P7")
def test_a_learner_without_actors_stops_at_its_update_ratio_and_resumes(rig: Rig, observed: Say) -> None:
    steps, utd = 40, 3
    learner = rig.learner(resume=False, utd=utd)
    for _ in range(2):
        assert rig.actor(steps=steps).wait() == 0
        wait_for(lambda: trained(rig) == received(rig))
        before = trained(rig)
        time.sleep(0.5)
        assert trained(rig) == before
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 0, learner.said()
    newest = Checkpoints(rig.run / "checkpoints").newest()
    assert newest is not None
    updates = newest.facts["updates"]
    observed(
        f"{updates} updates for {2 * steps} transitions, of which the first {TRAINING_STARTS} owe none, at {utd} each"
    )
    assert updates == utd * (2 * steps - TRAINING_STARTS)


@row("P8")
def test_a_learner_told_to_stop_saves_everything(rig: Rig, observed: Say) -> None:
    learner = rig.learner(resume=False, is_real=True, checkpoint_every=100_000)
    actor = rig.actor(steps=130)
    assert actor.wait() == 0, actor.said()
    wait_for(lambda: trained(rig) > 110)
    begun_s = time.monotonic()
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 0, learner.said()
    took_s = time.monotonic() - begun_s
    newest = Checkpoints(rig.run / "checkpoints").newest()
    assert newest is not None
    assert newest.facts["env_steps"] == 130
    assert read_metrics(rig.run / "metrics.jsonl")[-1]["event"] == "stopped"
    assert rig.check_exactly_once() == 130
    observed(f"learner: status 0 and a final checkpoint after {took_s:.1f} s")
    assert took_s < 10.0


@row("P8")
def test_an_actor_told_to_stop_leaves_the_arm_in_hold_and_its_spool_on_the_disk(
    rig: Rig, tmp_path: Path, observed: Say
) -> None:
    with robot(tmp_path) as (service, url, token_file):
        learner = rig.learner(resume=False, is_real=True)
        actor = rig.real_actor(url, token_file, max_lead_steps=10_000)
        wait_for(lambda: service.state().stamp_s > 1.0)
        learner.kill()
        stamp_s = service.state().stamp_s
        wait_for(lambda: service.state().stamp_s > stamp_s + 1.0)
        begun_s = time.monotonic()
        actor.signal(signal.SIGTERM)
        assert actor.wait() == 0, actor.said()
        took_s = time.monotonic() - begun_s
        let_time_pass(service, 0.05)
        state = service.state()
    assert state.mode is Mode.HOLD
    assert not list(rig.run.glob("*.spool-wal"))  # all of it is in the file, and that on the disk
    kept = rig.spooled()
    assert kept > 0
    observed(f"actor: status 0 after {took_s:.1f} s, arm in hold, {kept} transitions in the spool")
    assert took_s < 10.0


@pytest.mark.long
@pytest.mark.timeout(600)
@row("P9")
def test_actors_that_come_and_go_lose_nothing_and_get_weights(rig: Rig, seed: int, observed: Say) -> None:
    rng = np.random.default_rng(seed)
    learner = rig.learner(resume=False)
    names = [f"actor-{number}" for number in range(8)]
    running = {name: rig.actor(name=name, period_s=PERIOD_S) for name in names}
    deadline_s = time.monotonic() + 15.0
    leaves = kills = 0
    while time.monotonic() < deadline_s:
        time.sleep(rng.uniform(0.1, 0.4))
        name = str(rng.choice(names))
        if rng.random() < 0.5:
            running[name].kill()
            kills += 1
        else:
            running[name].signal(signal.SIGTERM)
            assert running[name].wait() == 0, running[name].said()
            leaves += 1
        running[name] = rig.actor(name=name, period_s=PERIOD_S)
    time.sleep(1.0)
    for actor in running.values():
        actor.signal(signal.SIGTERM)
    for actor in running.values():
        assert actor.wait() == 0, actor.said()
    learner.kill()
    count = rig.check_exactly_once(unfinished=1)
    assert all(rig.spooled(name) == 0 for name in names)
    timings = [np.load(path) for path in rig.run.glob("timing-*.npz")]
    waits_s = [float(timing["first_weights_s"]) for timing in timings if timing["version"]]
    observed(
        f"{leaves} left and {kills} were killed: {count} transitions, 0 lost, 0 double; "
        f"weights after {max(waits_s):.1f} s at most"
    )
    assert len(waits_s) > len(names)
    assert max(waits_s) < 5.0
    assert all(timing["lived_s"] < 5.0 for timing in timings if not timing["version"])  # they left before
