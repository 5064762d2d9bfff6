"""Rows G: many actors at once, large weights, and many clients of one robot server.

The machine may be busy with other things: what threads that only sleep are late by at the same time is the machine's
own share, and is taken off where a row limits lateness. Where the system allows it, the rows run before ordinary
processes (SCHED_FIFO), as actors and a learner with --real-time-priority do.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.load import Summary, summary
from benchmarks.load_rig import BOUT, ActorResult, Load, rig
from serl_core.errors import ConfigError
from serl_core.robots.messages import Mode
from serl_core.scheduling import go_before_others
from serl_core.testing.faults.proxy import FaultyLine
from tests.faults.fault_rows import row
from tests.faults.robot_rig import child, served_arm, until

pytestmark = pytest.mark.long

G1_S, OUTAGE_S = 60.0, 8.0
G4_BOUTS = 36  # with weights, and as many without: the more, the less one stall of the machine weighs
Ticks = list[tuple[float, float]]  # when each began, and how late, in s


def may_go_before_others() -> bool:
    """Return whether the system grants real-time priority; leaves the scheduling as it was."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        go_before_others()
    except ConfigError:
        return False
    os.sched_setscheduler(0, *before)
    return True


@contextmanager
def before_others() -> Iterator[None]:
    """Run this thread, and all that it starts, before ordinary processes, where that is allowed."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    if may_go_before_others():
        go_before_others()
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def load(seed: int, **changes: object) -> Load:
    return Load(**({"seed": seed, "goes_before_others": may_go_before_others()} | changes))


def told(found: Summary) -> str:
    return (
        f"{found.made} transitions, {found.lost_or_doubled} lost or double, ack p50 {found.ack_ms_p50:.1f} p99 "
        f"{found.ack_ms_p99:.0f} ms, {found.wire_kib:.0f} KiB each, learner {100 * found.learner_cpu:.0f} % and "
        f"busiest actor {100 * found.actor_cpu:.1f} % of a core"
    )


def nothing_lost(found: Summary) -> None:
    assert (found.lost_or_doubled, found.left) == (0, 0)
    assert found.made == found.logged


class Lateness(NamedTuple):
    """Of the steps of all actors in some time, in ms, beside a process that only sleeps, as many times."""

    p99: float
    most: float
    asleep_p99: float
    asleep_most: float

    @property
    def own_p99(self) -> float:
        """What the actors' own work adds to the machine's lateness."""
        return max(self.p99 - self.asleep_p99, 0.0)


def lateness(actors: list[ActorResult], sleeper: Ticks, begin_s: float, end_s: float) -> Lateness:
    """Return how late the steps were that began between two times."""
    steps = [tick for actor in actors for tick in zip(actor.tick_s, actor.late_s, strict=True)]

    def chosen(ticks: Ticks) -> np.ndarray:
        return 1e3 * np.array([late_s for start_s, late_s in ticks if begin_s <= start_s < end_s])

    late, asleep = chosen(steps), chosen(sleeper)
    return Lateness(*(float(x) for x in (np.percentile(late, 99), late.max(), np.percentile(asleep, 99), asleep.max())))


class Outage:
    """G1's load for a minute, then without its learner for a while, then with it again."""

    def __init__(self, folder: Path, seed: int) -> None:
        with rig(folder, load(seed)) as it:
            it.start_actors()
            self.begun_s, cpu_s = time.monotonic(), it.learner_cpu_s()
            time.sleep(G1_S)
            self.killed_s = time.monotonic()
            share = (it.learner_cpu_s() - cpu_s) / (self.killed_s - self.begun_s)
            it.kill_learner()
            time.sleep(OUTAGE_S)
            self.back_s = time.monotonic()
            it.start_learner()
            time.sleep(5.0)
            self.actors, self.sleeper = it.end_actors(), it.end_sleeper()
            self.found = summary(self.actors, it.end_learner(), self.sleeper, share)


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Outage:
    return Outage(tmp_path_factory.mktemp("load"), int(request.config.getoption("--fault-seed", 0)))


def steady(outage: Outage) -> np.ndarray:
    """How long each transition of the minute waited for its acknowledgement, in s."""
    return np.concatenate([actor.acknowledged_s[: round(20 * (G1_S - 2))] for actor in outage.actors])


@row("G1")
def test_eight_actors_with_two_cameras_lose_nothing_and_hear_of_it_soon(outage, observed):
    found = outage.found
    waited_ms = 1e3 * steady(outage)
    p50, p99 = np.percentile(waited_ms, [50, 99])
    observed(told(found._replace(ack_ms_p50=p50, ack_ms_p99=p99)))
    nothing_lost(found)
    assert found.made >= 0.95 * 8 * 20 * (G1_S + OUTAGE_S)
    assert p50 < 20
    assert p99 < 250
    assert found.wire_kib <= 100
    assert found.learner_cpu <= 0.25
    assert found.actor_cpu <= 0.05


@row("G2")
def test_the_actors_keep_their_time_also_while_the_learner_is_dead(outage, observed):
    alive = lateness(outage.actors, outage.sleeper, outage.begun_s + 2, outage.killed_s)
    dead = lateness(outage.actors, outage.sleeper, outage.killed_s, outage.back_s)
    observed(
        f"steps late p99 {alive.p99:.1f}, at most {alive.most:.0f} ms (a process that only sleeps: "
        f"{alive.asleep_p99:.1f}, {alive.asleep_most:.0f}); learner killed: p99 {dead.p99:.1f}, at most "
        f"{dead.most:.0f} ms (sleeping: {dead.asleep_p99:.1f}, {dead.asleep_most:.0f})"
    )
    for late in (alive, dead):
        assert late.own_p99 < 5
        assert late.most - late.asleep_most < 25
    assert dead.own_p99 - alive.own_p99 < 1


@row("G3")
def test_a_backlog_after_an_outage_drains_at_600_a_second(tmp_path, observed, seed):
    backlog = 600
    with rig(tmp_path, load(seed, backlog=backlog)) as it:
        it.start_actors()
        begun_s = time.monotonic()
        time.sleep(8.0)
        actors, sleeper = it.end_actors(), it.end_sleeper()
        learner = it.end_learner()
    found = summary(actors, learner, sleeper)
    # From the start, on top of the load that goes on: the time at which an actor's backlog was gone.
    drained_s = max(actor.backlog_drained_s for actor in actors) - begun_s
    made_meanwhile = 8 * 20 * drained_s
    rate = (8 * backlog + made_meanwhile) / drained_s
    late = lateness(actors, sleeper, begun_s, begun_s + drained_s + 1)
    observed(
        f"{8 * backlog} waiting, drained in {drained_s:.1f} s at {rate:.0f}/s; steps late p99 {late.p99:.1f} ms (only "
        f"sleeping {late.asleep_p99:.1f}); learner at most {learner.peak_rss_bytes / 2**20:.0f} MB"
    )
    nothing_lost(found)
    assert rate >= 600
    assert late.own_p99 < 5
    assert learner.peak_rss_bytes < 512 * 2**20


@row("G4")
def test_20_mb_of_weights_a_second_are_adopted_within_a_second_and_experience_is_not_delayed(tmp_path, observed, seed):
    with rig(tmp_path, load(seed), weights_bytes=20_000_000) as it:
        it.start_actors()
        begun_s = time.monotonic()
        time.sleep(2 * BOUT * G4_BOUTS)
        ended_s = time.monotonic()
        actors, sleeper = it.end_actors(), it.end_sleeper()
        learner = it.end_learner()
    found = summary(actors, learner, sleeper)
    published = {v: s for v, s in learner.published_s.items() if begun_s + 1 < s < ended_s - 2}
    beside: dict[bool, list[float]] = {True: [], False: []}  # of weights: how long acknowledgements took, in ms
    for actor in actors:
        for start_s, wait_s in zip(actor.tick_s, actor.acknowledged_s, strict=True):
            if begun_s + 2 * BOUT < start_s < ended_s:  # once all of it has been used
                is_beside = any(0 <= start_s - publish_s < 1 for publish_s in learner.published_s.values())
                beside[is_beside].append(1e3 * wait_s)
    with_ms, without_ms = (float(np.percentile(beside[key], 99)) for key in (True, False))
    took_s = [actor.adopted_s[v] - s for v, s in published.items() for actor in actors if v in actor.adopted_s]
    skipped = sum(v not in actor.adopted_s for v in published for actor in actors)
    p95_s = float(np.percentile(took_s, 95))
    grown_mb = max(max(actor.rss_bytes) - actor.rss_bytes[0] for actor in actors) / 1e6
    observed(
        f"adopted in {p95_s:.2f} s (p95), {skipped} of {len(took_s) + skipped} replaced by newer ones; an actor grew "
        f"by {grown_mb:.0f} MB; ack p99 {with_ms:.0f} ms while they come and {without_ms:.0f} ms between"
    )
    nothing_lost(found)
    assert p95_s < 1
    assert grown_mb < 120  # the record, its arrays, and the ones before them
    assert with_ms < 1.2 * without_ms


def client(role: str, url: str, tmp_path: Path, seconds: float) -> "subprocess.Popen[str]":
    arguments = (role, url, str(tmp_path / "robot.token"), str(seconds))
    return child("-m", "tests.faults.load_robot", *arguments, stdout=subprocess.PIPE)


def asked(process: "subprocess.Popen[str]") -> dict[str, float]:
    """Return what the server has to say of its control ticks since it was asked last."""
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@row("G5")
def test_a_controller_at_100_hz_is_undisturbed_by_ten_observers(tmp_path, observed):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with before_others(), child("-m", "tests.faults.load_robot", "serve", str(tmp_path), **pipes) as server:
        url = server.stdout.readline().strip()
        with client("control", url, tmp_path, 8.0) as controller, client("observe", url, tmp_path, 8.0) as observers:
            for process in (controller, observers):
                assert process.stdout.readline().strip() == "ready"
            asked(server)
            controlled = json.loads(controller.stdout.readline())
            loop = asked(server)
            reads = json.loads(observers.stdout.readline())["reads"]
    p99 = float(np.percentile(controlled["ms"], 99))
    observed(
        f"{len(controlled['ms'])} commands, round trip p50 {np.median(controlled['ms']):.2f} p99 {p99:.2f} ms; {reads} "
        f"reads; {loop['ticks']} control ticks, {loop['overruns']} late by 20 ms"
    )
    assert controlled["refused"] == 0
    assert len(controlled["ms"]) > 700
    assert reads > 2000
    assert p99 < 5
    assert loop["ticks"] > 7500
    assert loop["longest_s"] == pytest.approx(1e-3, abs=1e-6)  # none left out
    assert loop["overruns"] == 0


@row("G6")
def test_the_watchdog_is_as_quick_under_load(tmp_path, observed, seed):
    with before_others(), served_arm(tmp_path) as (_backend, service, url), rig(tmp_path, load(seed)) as it:
        it.start_actors()
        with client("observe", url, tmp_path, 30.0):
            took_ms = []
            for _ in range(3):
                with client("control", url, tmp_path, 30.0) as controller:
                    assert controller.stdout.readline().strip() == "ready"
                    until(lambda: service.state().mode is Mode.TRACKING, "tracking")
                    time.sleep(0.5)
                    controller.kill()
                    killed_s = service.state().stamp_s
                    while service.state().mode is not Mode.HOLD:
                        assert service.state().stamp_s - killed_s < 2
                        time.sleep(0.001)
                    took_ms.append(1e3 * (service.state().stamp_s - killed_s))
                time.sleep(2.2)  # the lease of the dead runs out
        found = summary(it.end_actors(), it.end_learner(), it.end_sleeper())
    observed(f"held {', '.join(f'{ms:.0f}' for ms in took_ms)} ms after the kill, of the robot's clock")
    nothing_lost(found)
    assert max(took_ms) <= 350


@row("G7")
def test_a_line_of_1_gbit_and_10_ms_costs_little(tmp_path, observed, seed):
    with rig(tmp_path, load(seed)) as it, FaultyLine(it.port, seed=seed) as line:
        line.faults.delay_s = 0.005
        line.faults.bytes_per_s = 1e9 / 8
        it.start_actors(f"tcp://127.0.0.1:{line.port}")
        cpu_s = it.learner_cpu_s()
        time.sleep(15.0)
        share = (it.learner_cpu_s() - cpu_s) / 15.0
        found = summary(it.end_actors(), it.end_learner(), it.end_sleeper(), share)
    observed(told(found))
    nothing_lost(found)
    assert found.ack_ms_p99 < 400
    assert found.wire_kib <= 100


@row("G8")
def test_sixteen_actors_wait_longer_and_lose_nothing(tmp_path, observed, seed):
    with rig(tmp_path, load(seed, actors=16)) as it:
        it.start_actors()
        cpu_s = it.learner_cpu_s()
        time.sleep(12.0)
        share = (it.learner_cpu_s() - cpu_s) / 12.0
        actors, sleeper = it.end_actors(), it.end_sleeper()
        learner = it.end_learner()
    found = summary(actors, learner, sleeper, share)
    observed(told(found))
    nothing_lost(found)
    assert found.made >= 0.9 * 16 * 20 * 12
    assert learner.peak_rss_bytes < 512 * 2**20
