"""Rows B: what happens to the arm when its driver, its readings or its server fail."""

import dataclasses
import math
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from examples import ram_insertion, reach
from robot_servers.backend import measured_in
from robot_servers.faulty_backend import FaultyBackend
from robot_servers.limits import Refusal, SafetyLimits, load_limits
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.service_parts.automatic_recovery import WAIT_S, RecoveryBudget
from robot_servers.sim.backend import MujocoBackend
from serl_core.clock import ManualClock
from serl_core.config import TaskConfig
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.http_client import HttpRobot
from serl_core.robots.messages import (
    EpochCommand,
    ImpedanceParams,
    JointResetCommand,
    LeaseRequest,
    Mode,
    PoseCommand,
    RecoverCommand,
    SimResetCommand,
)
from serl_core.types import EndReason
from tests.faults.fault_rows import row
from tests.faults.robot_rig import (
    DOWN,
    FULL_SPEED,
    Arm,
    arm,
    children_of,
    is_alive,
    server_process,
    until,
)
from tests.robot_servers.franky.simulated import Served, SimulatedArms

Observed = Callable[[str], None]
ROOT = Path(__file__).parents[2]
LIMITS_FILES = (None, *sorted(ROOT.glob("docker/*limits*.json")), *sorted(ROOT.glob("examples/**/*limits*.json")))


# ---- reflexes and recoveries


@row("B1")
def test_a_reflex_latches_and_ends_the_episode_and_nothing_recovers_unasked(observed: Observed) -> None:
    with arm() as made:
        made.service.lease(LeaseRequest(action="release", owner="test", epoch=made.epoch))
        robot = LocalRobot(made.service)
        with ArmEnv(reach.TASK, robot, seed=0) as env:
            env.reset()
            action = np.zeros(6, np.float32)
            action[0] = 1.0
            for _ in range(5):
                env.step(action)
            reflex_s = made.backend.now_s()
            made.backend.reflex()
            _, reward, terminated, truncated, info = env.step(action)
            assert (info["end"], reward, terminated, truncated) == (EndReason.ROBOT_FAULT, 0.0, False, True)
            assert env.state.fault == "reflex"
            refused = 0
            for _ in range(200):
                with pytest.raises(RobotFault, match="latched by 'reflex'") as no:
                    robot.step(env.state.tcp_pose, 0.1)
                assert no.value.status == 423
                refused += 1
            with pytest.raises(RobotFault):
                env.reset()
            assert made.backend.recoveries == 0
            assert made.service.state().mode is Mode.FAULT
            held = [tick for tick in made.backend.log if tick.now_s > reflex_s + 0.002]
            assert len({tick.set_point for tick in held}) == 1
            robot.recover()
            assert made.backend.recoveries == 1
            env.reset()
    observed(
        f"latched in the same step, episode truncated as robot_fault; {refused} commands 423, 0 recoveries unasked"
    )


@row("B2")
def test_a_recovery_takes_the_measured_pose_first_and_the_arm_stays(observed: Observed) -> None:
    """The arm was pushed 3 cm away by hand while it was in its reflex."""
    with arm() as made:
        made.set_gains(FULL_SPEED)
        made.follow(0.06, 0.4)
        made.backend.reflex()
        made.advance(1.0)
        x, y, z, *_ = made.state.tcp_pose
        made.backend.reset(None, (x, y + 0.03, z, *DOWN))  # unseen by the kernel
        before = made.state.tcp_pose
        made.service.recover(RecoverCommand(epoch=made.epoch, cause="reflex"))
        made.backend.log.clear()
        made.advance(1.0)
        log = list(made.backend.log)
        set_off_m = math.dist(log[0].set_point[:3], before[:3])
        moved_m = max(math.dist(tick.position_m, before[:3]) for tick in log)
        assert made.state.mode is Mode.HOLD
    observed(f"set-point {1e3 * set_off_m:.3f} mm off the measured pose, then {1e3 * moved_m:.3f} mm of motion in 1 s")
    assert set_off_m < 1e-6
    assert moved_m < 0.001


@row("B2")
def test_a_recovery_of_libfrankas_arm_does_not_move_it(observed: Observed) -> None:
    arms = SimulatedArms()
    try:
        served = Served(arms.address)
        try:
            served.follow(dx=0.04, duration_s=0.4)
            arms.ask("reflex")
            served.until(lambda: served.service.state().fault == "reflex", "the fault")
            rest_s = time.monotonic() + 0.5
            served.until(lambda: time.monotonic() > rest_s, "rest")
            served.service.recover(RecoverCommand(epoch=served.epoch, cause="reflex"))
            recovered_s = time.monotonic()
            served.until(lambda: time.monotonic() > recovered_s + 2.0, "1 s of the robot's clock")
            places_m = np.array([entry[1] for entry in arms.ask("log", rest_s)])
            assert len(places_m) > 100  # it is slow on a busy machine
            moved_m = float(np.linalg.norm(places_m - places_m[0], axis=1).max())
            assert served.service.state().mode is Mode.HOLD
        finally:
            served.service.close()
    finally:
        arms.kill()
    observed(f"libfranka's simulator: {1e3 * moved_m:.3f} mm of motion about the recovery")
    assert moved_m < 0.001


@row("B3")
@pytest.mark.parametrize(
    "cause", ["power_limit", "joint_limit", "self_collision", "stop", "connection_lost", "numeric_fault", "reflex "]
)
def test_nothing_but_a_reflex_is_ever_recovered_from_unasked(cause: str) -> None:
    assert not RecoveryBudget(3).allows(cause, 0.0)


@row("B3")
def test_an_automatic_recovery_is_off_by_default_and_comes_three_times_in_ten_minutes(observed: Observed) -> None:
    def run(most: int) -> tuple[int, list[float]]:
        clock = ManualClock()
        made = Arm(SafetyLimits(automatic_recoveries=most, lease_timeout_s=10.0))
        automatic = made.service._automatic
        automatic._liveness = clock
        recovered_s: list[float] = []
        try:
            made.backend.reflex()
            while clock() < 700.0:
                made.service._servo(made.backend.now_s(), measured_in(made.backend.state()))
                automatic.look(clock())
                if made.state.fault is None:
                    recovered_s.append(clock())
                    made.backend.reflex()  # at once again
                clock.advance(0.5)
            return made.backend.recoveries, recovered_s
        finally:
            made.close()

    assert run(0) == (0, [])
    recoveries, times_s = run(3)
    assert len(times_s) == recoveries
    assert all(WAIT_S <= time_s < 10.0 for time_s in times_s[:3])  # a client has seen the fault by then
    assert times_s[3] >= 600.0 + times_s[0]
    with pytest.raises(ValueError, match="automatic_recoveries must be 0 to 3"):
        SafetyLimits(automatic_recoveries=4)
    observed(
        f"default: 0; allowed: after {', '.join(f'{time_s:.1f}' for time_s in times_s[:3])} s, "
        f"the fourth only after {times_s[3]:.0f} s"
    )


@row("B3")
def test_a_stopped_arm_is_not_recovered_unasked(observed: Observed) -> None:
    with arm(SafetyLimits(automatic_recoveries=3)) as made:
        made.backend.reflex()
        made.service.stop()
        made.advance(0.01)
        for now_s in np.arange(0.0, 20.0, 0.5):
            made.service._automatic.look(float(now_s))
        assert made.backend.recoveries == 0
        assert made.state.fault == "reflex"
        made.service.resume(EpochCommand(epoch=made.epoch))
        for now_s in np.arange(20.0, 25.0, 0.5):
            made.service._automatic.look(float(now_s))
        assert made.backend.recoveries == 1
        assert made.state.mode is Mode.HOLD
    observed("under a stop none; once resumed one, into hold")


# ---- readings


@row("B4")
@pytest.mark.parametrize(("freeze_s", "is_latched"), [(0.2, False), (2.0, True)])
def test_frozen_readings_are_stale_and_then_latched(observed: Observed, freeze_s: float, is_latched: bool) -> None:
    clock = ManualClock()
    made = HandDriven(MujocoBackend("ram_insertion", is_lockstep=True), clock)
    made.ticks(0.2)
    made.backend.state_freeze(freeze_s)
    stale: list[float] = []
    refused: Counter[int] = Counter()
    latched_s = None
    while clock() < 0.2 + freeze_s - 1e-9:
        made.ticks(0.02)
        since_s = clock() - 0.2
        state = made.service.state()
        if state.is_stale:
            stale.append(since_s)
        if latched_s is None and state.fault == "backend_lost":
            latched_s = since_s
        if since_s > 0.11:
            with pytest.raises(Refusal) as no:
                made.service.pose(PoseCommand(epoch=made.epoch, pose=state.tcp_pose))
            refused[no.value.status] += 1
    made.ticks(0.05)
    after = made.service.state()
    assert not after.is_stale
    assert stale[0] == pytest.approx(0.12, abs=0.021)
    assert set(refused) == {503}
    assert (latched_s is not None) is is_latched
    assert after.fault == ("backend_lost" if is_latched else None)
    if is_latched:
        assert latched_s == pytest.approx(1.02, abs=0.03)
    else:
        made.service.pose(PoseCommand(epoch=made.epoch, pose=after.tcp_pose))
    made.service.close()
    told = f"latched after {latched_s:.2f} s" if latched_s is not None else "not latched, goes on"
    observed(f"{freeze_s:g} s: stale after {stale[0]:.2f} s, {refused[503]} commands 503, {told}")


class HandDriven(Arm):
    """An arm that counts as one in real time, whose time is moved on by hand: the liveness clock too."""

    def __init__(self, simulator: MujocoBackend, clock: ManualClock) -> None:
        self.backend = FaultyBackend(simulator)
        self.clock = clock
        self.simulator = simulator
        self.backend.is_lockstep = False
        self.service = RobotService(self.backend, SafetyLimits(lease_timeout_s=10.0), liveness=clock)
        start = self.backend.start

        def begin(servo: object) -> None:
            start(servo)  # type: ignore[arg-type]
            simulator.advance(0.001)

        self.backend.start = begin  # type: ignore[method-assign]
        self.service.start()
        self.acquire()

    def ticks(self, duration_s: float) -> None:
        """Let both clocks go on, tick by tick."""
        for _ in range(round(duration_s * 1000)):
            self.clock.advance(0.001)
            self.simulator.advance(0.001)


@row("B5")
def test_readings_that_are_no_numbers_are_dropped_counted_and_the_third_in_a_row_latches(observed: Observed) -> None:
    with arm() as made:
        made.track(0.05)
        made.advance(0.1)
        for readings in (1, 2, 1, 2):
            made.backend.nan_state(readings)
            made.advance(0.001 * readings)
            state = made.state
            assert state.is_stale
            assert all(map(math.isfinite, state.tcp_pose))
            assert state.fault is None
            made.advance(0.01)
            assert not made.state.is_stale
        assert made.service.counts().dropped_readings == 6
        made.track(0.05)
        made.backend.nan_state(3)
        made.advance(0.003)
        latched = made.state
        made.advance(0.3)
        assert (latched.mode, latched.fault) == (Mode.FAULT, "numeric_fault")
        assert made.service.counts().dropped_readings == 9
        log = list(made.backend.log)
        numbers = np.array([(*tick.set_point, *(tick.torque_nm or ())) for tick in log])
        assert np.isfinite(numbers).all()
        held = [tick.set_point for tick in log[-250:]]
        assert len(set(held)) == 1
    observed("6 readings dropped in ones and twos, counted, none told to a client; 3 in a row: numeric_fault, hold")


@row("B8")
@pytest.mark.parametrize(("packets", "is_latched"), [(19, False), (21, True)])
def test_nineteen_lost_packets_are_a_warning_and_twenty_one_a_fault(
    observed: Observed, caplog: pytest.LogCaptureFixture, packets: int, is_latched: bool
) -> None:
    with arm() as made:
        made.set_gains(FULL_SPEED)
        made.follow(0.06, 0.3)
        made.track(0.06)
        made.backend.packet_loss(packets)
        made.advance(0.05)
        state = made.state
        assert made.backend.lost_packets == packets
        assert f"{packets} control packets in a row were lost" in caplog.text
        if is_latched:
            assert (state.mode, state.fault) == (Mode.FAULT, "communication_constraints_violation")
            with pytest.raises(Refusal) as no:
                made.track(0.02)
            assert no.value.status == 423
            made.advance(0.5)
            rest = [tick.position_m for tick in list(made.backend.log)[-50:]]
            assert math.dist(rest[0], rest[-1]) < 1e-3
        else:
            assert (state.mode, state.fault) == (Mode.TRACKING, None)
            made.track(0.02)
    observed(f"{packets}: {'latched ' + str(state.fault) if is_latched else 'tracking goes on, a warning in the log'}")


# ---- processes


@row("B6")
def test_an_arm_that_is_gone_is_a_503_at_once(observed: Observed) -> None:
    """libfranka's simulator is killed under the driver. libfranka itself waits 1 s for the next packet of its arm.

    The refusal came after that second only: two durations of franky's are never equal, so that the last packet seemed
    new in every tick. A stop is taken all the while.
    """
    arms = SimulatedArms()
    try:
        served = Served(arms.address)
        try:
            served.follow(dx=0.02, duration_s=0.3)
            killed_s = time.monotonic()
            arms.process.send_signal(signal.SIGKILL)
            statuses: list[int] = []
            while not statuses or statuses[-1] == 0:
                try:
                    served.service.pose(PoseCommand(epoch=served.epoch, pose=served.home))
                    statuses.append(0)
                except Refusal as refusal:
                    statuses.append(refusal.status)
                time.sleep(0.01)
                assert time.monotonic() - killed_s < 30.0
            refused_s = time.monotonic() - killed_s
            asked_s = time.monotonic()
            served.service.latch_stop("operator")
            stop_s = time.monotonic() - asked_s
            until(lambda: served.service.state().fault != "operator", "the fault")
            state = served.service.state()
        finally:
            served.service.close()
    finally:
        arms.kill()
    observed(
        f"libfranka's simulator killed: commands {statuses[-1]} after {refused_s:.2f} s, a stop then taken in "
        f"{1e3 * stop_s:.1f} ms, latched {state.fault}"
    )
    assert statuses[-1] == 503
    assert refused_s < 0.3
    assert stop_s < 0.1
    assert state.fault == "connection_lost"


@row("B6")
def test_a_driver_that_died_is_a_503_and_does_not_recover(observed: Observed) -> None:
    made = HandDriven(MujocoBackend("ram_insertion", is_lockstep=True), ManualClock())
    try:
        made.ticks(0.05)
        made.track(0.05)
        made.ticks(0.1)
        made.backend.die()
        died_s = made.clock()
        while True:
            made.ticks(0.01)
            try:
                made.track(0.05)
            except Refusal as refusal:
                if refusal.status != 503:
                    raise
                break
        after_s = made.clock() - died_s
        made.ticks(1.1)
        assert made.state.fault == "backend_lost"
        with pytest.raises(Refusal) as no:
            made.service.recover(RecoverCommand(epoch=made.epoch, cause="backend_lost"))
        assert (no.value.status, no.value.kind) == (409, "still_faulted")
        assert len({tick.set_point for tick in list(made.backend.log)[-1000:]}) == 1
    finally:
        made.close()
    observed(
        f"a control loop that died: 503 after {after_s:.2f} s, latched after 1 s, no recovery; the set-point stays"
    )
    assert after_s < 0.13


@row("B6")
def test_an_arm_that_is_back_is_recovered_by_one_request() -> None:
    """The silence before was latched as another fault, backend_lost, in the moment after the recovery."""
    arms = SimulatedArms()
    try:
        served = Served(arms.address)
        try:
            arms.kill()
            until(lambda: served.service.state().fault == "connection_lost", "the fault")
            time.sleep(1.2)  # longer than the backend may be silent
            arms = SimulatedArms(addresses=arms.addresses)
            until(lambda: served.service.state().lease_epoch == 0, "the end of the lease")
            pose_epoch = served.service.state().pose_epoch
            request = LeaseRequest(action="acquire", owner="test", pose_epoch=pose_epoch)
            served.epoch = served.service.lease(request).epoch
            served.service.recover(RecoverCommand(epoch=served.epoch, cause="connection_lost"))
            for _ in range(10):
                assert served.service.state().fault is None
                time.sleep(0.02)
        finally:
            served.service.close()
    finally:
        arms.kill()


@row("B6")
@pytest.mark.long
def test_a_server_that_is_killed_is_started_again_three_times_into_a_hold(observed: Observed, tmp_path: Path) -> None:
    errors = (tmp_path / "log").open("w")
    modes = []
    with errors, server_process(tmp_path, "--supervised", stderr=errors) as (supervisor, url, token):
        known = set()
        for _ in range(3):
            (server,) = children_of(supervisor.pid)
            assert server not in known
            known.add(server)
            robot = HttpRobot(url, owner="client", token_file=token)
            robot.connect()
            x, y, z, *turn = robot.state().tcp_pose
            assert robot.step((x, y + 0.05, z, *turn), 0.1).mode is Mode.TRACKING
            (tmp_path / "url").unlink()
            os.kill(server, signal.SIGKILL)
            until(lambda: (tmp_path / "url").exists(), "the restart")
            url = (tmp_path / "url").read_text().strip()
            fresh = HttpRobot(url, owner="observer", token_file=token)
            state = fresh.state()
            time.sleep(0.3)
            again = fresh.state()
            modes.append((again.mode, again.lease_epoch, math.dist(state.tcp_pose[:3], again.tcp_pose[:3]) < 1e-3))
            robot.close()
            fresh.close()
        (server,) = children_of(supervisor.pid)
        os.kill(server, signal.SIGKILL)
        assert supervisor.wait(30.0) == 2
    assert modes == [(Mode.HOLD, 0, True)] * 3
    assert "died 4 times in 600 s" in (tmp_path / "log").read_text()
    observed("killed 4 times: 3 restarts, each in hold without a lease; then it ends with status 2 and says why")


@row("B6")
def test_a_stop_outlives_the_server_that_was_stopped(observed: Observed, tmp_path: Path) -> None:
    causes = []
    with server_process(tmp_path, "--supervised") as (supervisor, url, token):
        for is_stopped in (True, False):
            robot = HttpRobot(url, owner="client", token_file=token)
            robot.connect()
            robot.stop() if is_stopped else robot.resume()
            (tmp_path / "url").unlink()
            (server,) = children_of(supervisor.pid)
            os.kill(server, signal.SIGKILL)
            robot.close()
            until(lambda: (tmp_path / "url").exists(), "the restart")
            url = (tmp_path / "url").read_text().strip()
            fresh = HttpRobot(url, owner="observer", token_file=token)
            causes.append(fresh.state().mode)
            fresh.close()
        (tmp_path / "url").unlink()
        (server,) = children_of(supervisor.pid)
        os.kill(server, signal.SIGKILL)
        until(lambda: not children_of(supervisor.pid), "the pause before the restart")
        supervisor.send_signal(signal.SIGUSR1)
        until(lambda: (tmp_path / "url").exists(), "the restart")
        fresh = HttpRobot((tmp_path / "url").read_text().strip(), owner="observer", token_file=token)
        causes.append(fresh.state().mode)
        fresh.close()
    assert causes == [Mode.STOPPED, Mode.HOLD, Mode.STOPPED]
    observed("a stop is still latched after the restart, once resumed it stays so, and one in between counts")


@row("B7")
def test_a_server_leaves_no_process_behind_when_it_or_its_supervisor_is_killed(
    observed: Observed, tmp_path: Path
) -> None:
    with server_process(tmp_path, "--clock", "lockstep", "--supervised") as (supervisor, _, _):
        (server,) = children_of(supervisor.pid)
        assert children_of(server) == []  # the server makes none
        os.kill(supervisor.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        until(lambda: not is_alive(server), "the server's end")
        gone_s = time.monotonic() - killed_s
    with server_process(tmp_path, "--clock", "lockstep") as (alone, url, _):
        ours = [pid for pid in _with_argument(str(tmp_path / "robot.token")) if is_alive(pid)]
        assert ours == [alone.pid]  # a restart starts exactly one
        assert httpx.get(f"{url}/v1/health").status_code == 200
    observed(f"supervisor killed: its server gone after {gone_s:.2f} s; a restart is one process")
    assert gone_s < 1.0


def _with_argument(text: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if text.encode() in words:
                found.append(int(entry))
    return found


# ---- resets and contact


@row("B9")
def test_a_joint_reset_that_never_arrives_is_a_504_latched_and_no_episode_begins(observed: Observed) -> None:
    with arm(SafetyLimits(lease_timeout_s=10.0)) as made:
        made.service.lease(LeaseRequest(action="release", owner="test", epoch=made.epoch))
        robot = LocalRobot(made.service)
        with ArmEnv(reach.TASK, robot, seed=0) as env:
            env.reset()
            made.backend.stick()
            begin_s = made.backend.now_s()
            with pytest.raises(RobotError, match="did not arrive within 30 s") as failed:
                robot.joint_reset()
            took_s = made.backend.now_s() - begin_s
            state = made.service.state()
            with pytest.raises(RobotFault, match="latched by 'reset_failed'"):
                env.reset()
            with pytest.raises(RobotFault):
                robot.step(state.tcp_pose, 0.1)
    observed(f"after {took_s:.2f} s of the robot's clock {failed.value.status} {state.fault}; env.reset() raises")
    assert failed.value.status == 504
    assert (state.mode, state.fault) == (Mode.FAULT, "reset_failed")
    assert 30.0 <= took_s < 30.2


@row("B10")
def test_of_two_resets_at_once_one_runs(observed: Observed) -> None:
    statuses: Counter[int] = Counter()
    runs = 30
    for _ in range(runs):
        with arm() as made:
            started: list[float] = []
            start = made.backend.start_joint_reset

            def counted(start: Callable[[], None] = start, started: list[float] = started) -> None:
                started.append(time.monotonic())
                start()

            made.backend.start_joint_reset = counted  # type: ignore[method-assign]
            barrier = threading.Barrier(2)

            def reset(made: Arm = made, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(60.0)
                try:
                    made.service.joint_reset(JointResetCommand(epoch=made.epoch))
                    statuses[200] += 1
                except Refusal as refusal:
                    statuses[refusal.status] += 1

            threads = [threading.Thread(target=reset) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(started) == 1
            made.advance(0.05)
            assert made.state.mode is Mode.MOVING
    observed(f"{runs} runs: {statuses[200]} resets run, {statuses[409]} get 409")
    assert statuses == {200: runs, 409: runs}


RESETS: dict[str, Callable[[TaskConfig], dict[str, object]]] = {
    "as shipped": lambda config: {},
    "by moves": lambda config: {"is_teleport": False},
    "by moves, lifted first": lambda config: {"is_teleport": False, "lift_to_z_m": config.box.high_m[2] - 0.005},
    "teleport": lambda config: {"is_teleport": True, "lift_to_z_m": None},
}


@row("B11")
@pytest.mark.parametrize("option", RESETS)
@pytest.mark.parametrize("task", [ram_insertion.TASK, reach.TASK], ids=lambda task: task.config.name)
@pytest.mark.parametrize("path", LIMITS_FILES, ids=lambda path: "defaults" if path is None else path.name)
def test_an_episode_can_begin_with_every_shipped_configuration(
    observed: Observed, path: Path | None, task: Task, option: str
) -> None:
    limits = load_limits(path)
    reset = dataclasses.replace(task.config.reset, **RESETS[option](task.config))
    changed = dataclasses.replace(task, config=dataclasses.replace(task.config, reset=reset))
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True), limits)
    service.start()
    try:
        robot = LocalRobot(service)
        with ArmEnv(changed, robot, seed=0) as env:
            for _ in range(2):
                env.reset()
                assert env.step(np.zeros(6, np.float32))[4]["end"] is EndReason.RUNNING
            assert robot.joint_reset().mode is Mode.HOLD
            env.reset()
    finally:
        service.close()
    observed(
        f"{2 * len(RESETS) * len(LIMITS_FILES)} combinations of task, reset option and limits file: all reset, "
        "and once by joints"
    )


@row("B11")
@pytest.mark.parametrize("path", LIMITS_FILES, ids=lambda path: "defaults" if path is None else path.name)
def test_the_program_starts_with_every_shipped_limits_file(tmp_path: Path, path: Path | None) -> None:
    options = [] if path is None else ["--limits-file", str(path)]
    with server_process(tmp_path, "--clock", "lockstep", *options) as (_, url, token):
        robot = HttpRobot(url, owner="test", token_file=token)
        robot.connect()
        try:
            assert robot.joint_reset().mode is Mode.HOLD
        finally:
            robot.close()


def test_the_shipped_limits_files_are_found() -> None:
    tracked = subprocess.run(["git", "ls-files", "*limits*.json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {ROOT / name for name in tracked.stdout.split()} == {path for path in LIMITS_FILES if path is not None}


@row("B12")
@pytest.mark.parametrize(
    ("stiffness_n_m", "clip_m", "ramp_m_s"),
    [(2000.0, 0.01, 0.02), (1000.0, 0.02, 0.02), (3000.0, 0.005, 0.02), (2000.0, 0.004, 0.02)],
)
def test_a_push_on_a_wall_is_limited_to_stiffness_times_clip(
    observed: Observed, stiffness_n_m: float, clip_m: float, ramp_m_s: float
) -> None:
    """A ramp into the table: its force on the tool, from half a second after the first touch on.

    What the moving mass adds at the touch is no spring's: it is told, not asserted.
    """
    params = ImpedanceParams(
        translational_stiffness_n_m=stiffness_n_m,
        translational_damping_ns_m=max(2.0 * math.sqrt(stiffness_n_m), stiffness_n_m * clip_m / 0.25),
        translational_clip_m=(clip_m,) * 6,
    )
    with arm(SafetyLimits(soft_wall_n_m=0.0)) as made:
        made.service.sim_reset(SimResetCommand(epoch=made.epoch, seed=0, pose=(0.4, 0.15, 0.07, *DOWN)))
        made.set_gains(params)
        made.advance(1.0)
        z = made.state.tcp_pose[2]
        force_n = touch_n = 0.0
        touched_s = math.inf
        while z > -0.04:
            z -= 0.05 * ramp_m_s
            made.service.pose(PoseCommand(epoch=made.epoch, pose=(0.4, 0.15, z, *DOWN)))
            for _ in range(10):
                made.advance(0.005)
                now_n = float(np.linalg.norm(made.backend.state().tcp_wrench[:3]))
                if now_n > 1.0:
                    touched_s = min(touched_s, made.backend.now_s())
                if made.backend.now_s() < touched_s + 0.5:
                    touch_n = max(touch_n, now_n)
                else:
                    force_n = max(force_n, now_n)
        settled_n = float(np.linalg.norm(made.state.tcp_wrench[:3]))
    limit_n = stiffness_n_m * clip_m
    observed(
        f"{limit_n:.0f} N: at most {force_n:.1f} N from 0.5 s after the touch on, {settled_n:.1f} N in the end "
        f"({touch_n:.1f} N at the touch)"
    )
    assert settled_n > 0.8 * limit_n  # it did push
    assert force_n <= 1.1 * limit_n
