"""The service on the point mass: what reaches the backend, and what a client reads."""

import contextlib
import json
import math
import threading

import msgspec
import numpy as np
import pytest

from robot_servers import service as service_module
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend
from serl_core.clock import ManualClock
from serl_core.errors import RobotError
from serl_core.robots.messages import (
    EpochCommand,
    GripperCommand,
    ImpedanceCommand,
    ImpedanceParams,
    JointResetCommand,
    LeaseRequest,
    LoadCommand,
    Mode,
    MoveCommand,
    PoseCommand,
    RecoverCommand,
    SimAdvanceCommand,
    SimResetCommand,
    StreamCommand,
    Vector7,
    WrenchCommand,
)


class Rig:
    """A service in lockstep with its lease taken, on a liveness clock of its own."""

    def __init__(self, **options) -> None:
        self.backend = PointMassBackend()
        self.clock = ManualClock()
        self.service = RobotService(self.backend, liveness=self.clock, **options)
        self.service.start()
        self.epoch = self.acquire()
        self.sequence = 0

    def acquire(self) -> int:
        pose_epoch = self.service.state().pose_epoch
        return self.service.lease(LeaseRequest(action="acquire", owner="test", pose_epoch=pose_epoch)).epoch

    def step(self, dx: float = 0.0, reply_after_s: float = 0.1, gripper: float | None = None) -> None:
        self.sequence += 1
        x, *rest = self.backend.state().tcp_pose
        command = StreamCommand(
            epoch=self.epoch,
            sequence=self.sequence,
            pose=(x + dx, *rest),
            reply_after_s=reply_after_s,
            gripper=gripper,
        )
        self.service.stream_step(command)

    def advance(self, duration_s: float) -> None:
        self.service.sim_advance(SimAdvanceCommand(epoch=self.epoch, duration_s=duration_s))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def at(x: float, y: float = 0.0, z: float = 0.3) -> Vector7:
    return (x, y, z, *HOME[3:])


def status_of(call, *arguments) -> int:
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    return refused.value.status


def test_a_step_in_lockstep_advances_exactly_what_it_asks_for(rig):
    rig.step(reply_after_s=0.1)
    rig.step(reply_after_s=0.037)
    assert rig.service.state().stamp_s == pytest.approx(0.137)
    assert rig.service.state().mode is Mode.TRACKING


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_an_arm_whose_pose_is_not_known_is_not_served(is_lockstep, monkeypatch):
    monkeypatch.setattr(service_module, "FIRST_READING_S", 0.05)
    backend = PointMassBackend(is_lockstep=is_lockstep)
    backend.place((math.nan, 0.0, 0.3))
    with pytest.raises(RobotError, match="'point_mass' gives no finite pose"):
        RobotService(backend).start()


@pytest.mark.parametrize("fails_at", ["set_impedance", "state"])
def test_a_start_that_fails_half_way_stops_the_backend(fails_at, monkeypatch):
    """The control loop of the driver went on with nobody above it to end it."""
    backend, calls = PointMassBackend(), []

    def fail(*_):
        raise RobotError("no answer")

    monkeypatch.setattr(backend, fails_at, fail)
    monkeypatch.setattr(backend, "stop", lambda: calls.append("stop"))
    with pytest.raises(RobotError, match="no answer"):
        RobotService(backend, SafetyLimits(clip_m=(0.0005, 0.005))).start()
    assert calls == ["stop"]


def test_steps_move_the_arm(rig):
    for _ in range(20):
        rig.step(dx=0.01)
    assert rig.service.state().tcp_pose[0] > 0.6


@pytest.mark.parametrize("reply_after_s", [-0.1, 1.1, float("nan")])
def test_a_step_may_not_ask_for_a_reply_in_the_past_or_far_future(rig, reply_after_s):
    assert status_of(rig.step, 0.0, reply_after_s) == 422
    assert len(rig.backend.references) == 0


def test_the_gripper_moves_only_when_its_command_changes(rig):
    for position in (None, 0.2, 0.2, 0.7, None, 0.7):
        rig.step(gripper=position)
    assert [call[1] for call in rig.backend.calls if call[0] == "set_gripper"] == [0.2, 0.7]


@pytest.mark.parametrize("event", ["sim_reset", "recover", "lease"])
def test_the_grippers_command_is_sent_again_when_the_gripper_may_be_elsewhere(rig, event):
    """After a simulated reset the hand was open, and the closing command of the next episode did not reach it."""
    rig.step(gripper=0.2)
    if event == "sim_reset":
        rig.service.sim_reset(SimResetCommand(epoch=rig.epoch))
    elif event == "recover":
        rig.backend.fail("reflex")
        rig.advance(0.001)
        rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="reflex"))
    else:
        rig.service.lease(LeaseRequest(action="release", owner="test", epoch=rig.epoch))
        rig.epoch = rig.acquire()
    rig.step(gripper=0.2)
    assert [call[1] for call in rig.backend.calls if call[0] == "set_gripper"] == [0.2, 0.2]


def test_limits_tighter_than_the_default_gains_reach_the_backend_at_the_start():
    """A tightened limits file left the gains that the arm starts with as they were."""
    rig = Rig(limits=SafetyLimits(spring_force_n=8.0))
    ((name, params),) = rig.backend.calls
    assert name == "set_impedance"
    assert params.translational_stiffness_n_m * math.hypot(*params.translational_clip_m[::2]) <= 7.2 * (1 + 1e-9)


def test_the_streams_gripper_obeys_the_limits_file_too():
    """Its force was checked on the route of the gripper alone."""
    rig = Rig(limits=SafetyLimits(gripper_force_n=10.0))
    assert status_of(rig.step, 0.01, 0.1, 0.5) == 422
    assert rig.backend.references == []
    assert rig.backend.calls == []


def test_a_refused_gripper_position_moves_nothing(rig):
    assert status_of(rig.step, 0.01, 0.1, 1.5) == 422
    assert rig.backend.references == []
    assert rig.backend.calls == []


def test_a_move_makes_progress_only_while_time_is_advanced(rig):
    job = rig.service.move(MoveCommand(epoch=rig.epoch, pose=at(0.6)))
    assert rig.service.job(job.id).state == "running"
    for _ in range(50):
        rig.advance(0.1)
    assert rig.service.job(job.id).state == "succeeded"
    assert rig.service.state().tcp_pose[0] == pytest.approx(0.6, abs=1e-3)
    assert status_of(rig.service.job, job.id + 1) == 404


def test_a_joint_reset_ends_in_hold_where_the_arm_then_is(rig):
    job = rig.service.joint_reset(JointResetCommand(epoch=rig.epoch))
    assert status_of(rig.service.joint_reset, JointResetCommand(epoch=rig.epoch)) == 409
    assert status_of(rig.service.move, MoveCommand(epoch=rig.epoch, pose=at(0.6))) == 409
    rig.advance(1.0)
    assert rig.service.job(job.id).state == "succeeded"
    assert [call[0] for call in rig.backend.calls] == ["start_joint_reset", "cancel_joint_reset"]
    state = rig.service.state()
    assert state.mode is Mode.HOLD
    assert state.reference_pose[2] == pytest.approx(state.tcp_pose[2], abs=1e-6)


@pytest.mark.parametrize("event", ["the lease is lost", "a stop comes"])
def test_a_joint_reset_does_not_begin_when_it_may_no_longer(rig, event):
    """The lease was checked before the backend's call, which takes its time, and not after."""
    begin = rig.backend.start_joint_reset

    def begin_slowly() -> None:
        begin()
        if event == "a stop comes":
            rig.service.latch_stop("stop")
        else:
            rig.clock.advance(2.1)
            rig.backend.advance(0.001)

    rig.backend.start_joint_reset = begin_slowly
    assert status_of(rig.service.joint_reset, JointResetCommand(epoch=rig.epoch)) in (409, 423)
    assert rig.backend.calls[-1] == ("cancel_joint_reset",)
    assert rig.backend.joint_reset_error_rad() is None
    assert rig.service.state().mode is not Mode.MOVING


def test_a_joint_reset_that_no_longer_runs_has_not_arrived(rig):
    """What had ended by itself was reported as a success."""
    job = rig.service.joint_reset(JointResetCommand(epoch=rig.epoch))
    rig.backend.joint_reset_error_rad = lambda: None
    rig.advance(0.01)
    assert rig.service.job(job.id).state == "cancelled"
    assert rig.service.state().mode is Mode.HOLD


def test_a_stop_ends_a_joint_reset_at_the_next_tick(rig):
    rig.service.joint_reset(JointResetCommand(epoch=rig.epoch))
    rig.advance(0.1)
    assert rig.service.stop().mode is Mode.STOPPED
    rig.advance(0.001)
    assert rig.backend.calls[-1] == ("cancel_joint_reset",)
    height = rig.service.state().tcp_pose[2]
    rig.advance(1.0)
    assert rig.service.state().tcp_pose[2] == pytest.approx(height, abs=1e-6)


def test_a_stop_answers_while_a_command_hangs_in_the_backend(rig):
    """The stop once waited for the lock that every command holds."""
    is_in, may_go = threading.Event(), threading.Event()

    def hang(params: ImpedanceParams) -> None:
        is_in.set()
        may_go.wait(10.0)

    rig.backend.set_impedance = hang
    command = ImpedanceCommand(epoch=rig.epoch, params=ImpedanceParams())
    thread = threading.Thread(target=rig.service.impedance, args=(command,))
    thread.start()
    is_in.wait(10.0)
    stopper = threading.Thread(target=rig.service.stop)
    stopper.start()
    stopper.join(5.0)
    try:
        assert not stopper.is_alive()
        assert thread.is_alive()
        assert rig.service.state().mode is Mode.STOPPED
    finally:
        may_go.set()
        thread.join()


def test_a_stopped_arm_refuses_motion_and_parameters_until_resumed(rig):
    rig.service.stop()
    for call, command in (
        (rig.service.pose, PoseCommand(epoch=rig.epoch, pose=at(0.51))),
        (rig.service.wrench, WrenchCommand(epoch=rig.epoch, wrench=(5.0, *[0.0] * 5))),
        (rig.service.move, MoveCommand(epoch=rig.epoch, pose=at(0.51))),
        (rig.service.joint_reset, JointResetCommand(epoch=rig.epoch)),
        (rig.service.gripper, GripperCommand(epoch=rig.epoch, position=0.0)),
        (rig.service.impedance, ImpedanceCommand(epoch=rig.epoch, params=ImpedanceParams())),
        (rig.service.sim_reset, SimResetCommand(epoch=rig.epoch)),
    ):
        assert status_of(call, command) == 423
    assert rig.service.resume(EpochCommand(epoch=rig.epoch)).mode is Mode.HOLD
    rig.service.pose(PoseCommand(epoch=rig.epoch, pose=at(0.51)))


def test_a_reflex_is_latched_and_not_once_recovered_without_being_asked(rig):
    rig.step(dx=0.01)
    rig.backend.fail("reflex")
    rig.advance(0.001)
    for _ in range(5):
        assert status_of(rig.step, 0.01) == 423
        rig.advance(0.1)
    assert (rig.service.state().mode, rig.service.state().fault) == (Mode.FAULT, "reflex")
    assert status_of(rig.service.recover, RecoverCommand(epoch=rig.epoch, cause="stop")) == 422
    assert ("recover",) not in rig.backend.calls
    before = rig.service.state().tcp_pose
    assert rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="reflex")).mode is Mode.HOLD
    rig.advance(1.0)
    assert rig.service.state().tcp_pose[:3] == pytest.approx(before[:3], abs=1e-3)


def test_an_arm_moved_by_hand_in_a_fault_does_not_spring_back_while_the_driver_recovers(rig):
    """The driver was freed before the set-point was brought to where the arm now is."""
    rig.step(dx=0.01)
    rig.backend.fail("reflex")
    rig.advance(0.1)
    rig.backend.place((0.4, 0.1, 0.35))
    recover, ticks = rig.backend.recover, len(rig.backend.references)

    def recover_slowly() -> None:
        recover()
        rig.backend.advance(0.005)

    rig.backend.recover = recover_slowly
    rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="reflex"))
    rig.advance(0.1)
    for _, *pose in rig.backend.references[ticks:]:
        assert pose[:7] == pytest.approx(at(0.4, 0.1, 0.35))


def test_an_arm_that_was_moved_while_its_connection_was_lost_does_not_spring_back(rig):
    """Its set-point was where it had last been seen, for the first ticks after it was found again."""
    rig.step(dx=0.01)
    rig.backend.fail("connection_lost")
    rig.advance(0.001)
    recover, ticks = rig.backend.recover, len(rig.backend.references)

    def find_again() -> None:
        rig.backend.place((0.4, 0.1, 0.35))  # seen only now
        recover()
        rig.backend.advance(0.005)

    rig.backend.recover = find_again
    rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="connection_lost"))
    rig.advance(0.1)
    for _, *pose in rig.backend.references[ticks:]:
        assert pose[:7] == pytest.approx(at(0.4, 0.1, 0.35))


def test_a_fault_that_persists_in_the_driver_latches_again(rig):
    rig.backend.fail("power")
    rig.advance(0.001)
    rig.backend.recover = lambda: None
    rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="power"))
    assert rig.service.state().fault == "power"


def test_a_silent_holder_loses_the_lease_and_the_arm_holds(rig):
    rig.step(dx=0.05)
    rig.clock.advance(2.1)
    rig.backend.advance(0.001)
    assert (rig.service.state().lease_epoch, rig.service.state().mode) == (0, Mode.HOLD)
    assert status_of(rig.step) == 409
    old, rig.epoch = rig.epoch, rig.acquire()
    assert rig.epoch > old
    rig.step()


def test_steps_and_renewals_keep_the_lease(rig):
    for _ in range(5):
        rig.clock.advance(1.5)
        rig.step()
    for _ in range(5):
        rig.clock.advance(1.5)
        rig.service.lease(LeaseRequest(action="renew", owner="test", epoch=rig.epoch))
    assert rig.service.state().lease_epoch == rig.epoch


@pytest.mark.parametrize(("action", "epoch"), [("steal", 1), ("renew", None), ("release", None)])
def test_a_lease_request_must_make_sense(rig, action, epoch):
    assert status_of(rig.service.lease, LeaseRequest(action=action, owner="x", epoch=epoch)) == 422


def test_two_threads_cannot_both_get_the_lease():
    rig = Rig()
    for _ in range(50):
        rig.service.lease(LeaseRequest(action="release", owner="test", epoch=rig.epoch))
        barrier, won = threading.Barrier(2), []

        def grab(barrier=barrier, won=won) -> None:
            barrier.wait()
            with contextlib.suppress(Refusal):
                won.append(rig.acquire())

        threads = [threading.Thread(target=grab) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (rig.epoch,) = won


def test_refused_gains_leave_the_old_ones(rig):
    bad = msgspec.structs.replace(ImpedanceParams(), translational_damping_ns_m=0.0)
    assert status_of(rig.service.impedance, ImpedanceCommand(epoch=rig.epoch, params=bad)) == 422
    assert rig.backend.calls == []
    rig.service.impedance(ImpedanceCommand(epoch=rig.epoch, params=ImpedanceParams()))
    assert rig.backend.calls == [("set_impedance", ImpedanceParams())]


def test_the_payload_may_change_only_while_the_arm_holds(rig):
    load = LoadCommand(
        epoch=rig.epoch, mass_kg=0.2, center_m=(0.0, 0.0, 0.05), inertia_kg_m2=(0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01)
    )
    rig.step()
    assert status_of(rig.service.load, load) == 409
    rig.advance(0.5)
    rig.service.load(load)
    assert rig.backend.calls[-1][0] == "set_load"


def test_the_payload_may_not_change_under_a_wrench(rig):
    load = LoadCommand(epoch=rig.epoch, mass_kg=0.2, center_m=(0.0,) * 3, inertia_kg_m2=(0.0,) * 9)
    rig.service.wrench(WrenchCommand(epoch=rig.epoch, wrench=(5.0, *[0.0] * 5)))
    assert status_of(rig.service.load, load) == 409


def test_a_silent_holder_loses_the_wrench_with_the_lease(rig):
    rig.service.wrench(WrenchCommand(epoch=rig.epoch, wrench=(5.0, *[0.0] * 5)))
    rig.backend.advance(0.001)
    assert rig.backend.references[-1][8] == 5.0
    rig.clock.advance(2.1)
    rig.backend.advance(0.001)
    assert rig.backend.references[-1][8:] == (0.0,) * 6


def test_a_simulated_reset_puts_the_arm_there_and_holds_it_there(rig):
    for _ in range(3):
        rig.step(dx=0.02)
    state = rig.service.sim_reset(SimResetCommand(epoch=rig.epoch, seed=3, pose=at(0.4, 0.1)))
    assert state.tcp_pose == at(0.4, 0.1)
    assert state.mode is Mode.HOLD
    rig.advance(1.0)
    assert rig.service.state().tcp_pose == pytest.approx(at(0.4, 0.1))


def test_a_simulated_reset_brings_an_arm_back_that_is_outside_the_box(rig):
    """It was refused as any command in a fault, and a recovery latched again: the simulation was lost."""
    rig.backend.place((1.1, 0.0, 0.3))
    rig.advance(0.001)
    assert rig.service.state().fault == "outside_box"
    state = rig.service.sim_reset(SimResetCommand(epoch=rig.epoch))
    assert (state.mode, state.fault) == (Mode.HOLD, None)
    rig.step(dx=0.01)


def test_a_simulated_reset_clears_no_other_fault_and_no_stop(rig):
    rig.backend.fail("reflex")
    rig.advance(0.001)
    assert status_of(rig.service.sim_reset, SimResetCommand(epoch=rig.epoch)) == 423
    rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="reflex"))
    rig.backend.place((1.1, 0.0, 0.3))
    rig.advance(0.001)
    rig.service.stop()
    assert status_of(rig.service.sim_reset, SimResetCommand(epoch=rig.epoch)) == 423


def test_a_pose_the_simulator_cannot_reach_is_refused(rig):
    def cannot(seed, pose) -> None:
        raise RobotError("the pose cannot be reached")

    rig.backend.reset = cannot
    assert status_of(rig.service.sim_reset, SimResetCommand(epoch=rig.epoch, pose=at(0.9))) == 422


@pytest.mark.parametrize("command", [{"seed": -1}, {"pose": at(1.5)}, {"seed": 2**70}])
def test_a_wrong_simulated_reset_is_refused(rig, command):
    assert status_of(rig.service.sim_reset, SimResetCommand(epoch=rig.epoch, **command)) == 422


@pytest.mark.parametrize("duration_s", [-1.0, 11.0, float("nan")])
def test_a_simulation_may_not_advance_backwards_or_for_ever(rig, duration_s):
    assert status_of(rig.service.sim_advance, SimAdvanceCommand(epoch=rig.epoch, duration_s=duration_s)) == 422


def test_a_real_arm_has_no_simulator(rig):
    rig.backend.is_simulated = False
    assert status_of(rig.service.sim_reset, SimResetCommand(epoch=rig.epoch)) == 404
    assert status_of(rig.service.truth) == 404


def test_a_backend_that_goes_quiet_is_stale_and_then_latched():
    backend, clock = PointMassBackend(), ManualClock()
    service = RobotService(backend, liveness=clock)
    service.start()
    backend.is_lockstep = False  # nothing ticks from here on
    epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
    clock.advance(0.2)
    assert service.state().is_stale
    assert status_of(service.pose, PoseCommand(epoch=epoch, pose=HOME)) == 503
    clock.advance(1.0)
    service.state()
    assert service.state().fault == "backend_lost"


def test_the_audit_log_has_a_line_for_each_change(tmp_path):
    path = tmp_path / "audit" / "robot.jsonl"
    rig = Rig(audit_log=path, limits=SafetyLimits())
    rig.step(dx=0.01)
    rig.advance(0.5)
    rig.service.stop("by hand")
    rig.service.resume(EpochCommand(epoch=rig.epoch))
    rig.service.lease(LeaseRequest(action="release", owner="test", epoch=rig.epoch))
    rig.service.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "lease", "mode", "watchdog", "mode", "stop", "resume", "lease_released",
    ]  # fmt: skip
    assert lines[0]["detail"] == "test epoch 1"
    assert lines[4]["detail"] == "by hand"
    assert all(line["monotonic_s"] > 0 and line["wall_s"] > 0 for line in lines)


# ---- the joints and the soft wall


def near_limit(rig: Rig, q_rad: float) -> None:
    """Joint 1, with limits of 3 rad, is there, and turns by 1 rad per metre along x."""
    rig.backend.q = np.array([q_rad, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.backend.jacobian = np.zeros((6, 7))
    rig.backend.jacobian[0, 0] = 1.0
    rig.advance(0.01)


def test_a_target_that_takes_a_joint_into_its_margin_is_refused_with_what_is_allowed(rig):
    near_limit(rig, 2.94)
    with pytest.raises(Refusal) as refused:
        rig.step(dx=0.02)
    problem = refused.value.problem()
    assert (problem.status, problem.type, problem.limit) == (422, "urn:serl:joint_limit", [-2.95, 2.95])
    assert problem.given == pytest.approx(2.96, abs=1e-3)
    rig.step(dx=-0.02)


def test_the_margin_is_judged_where_a_simulated_reset_put_the_arm(rig):
    near_limit(rig, 2.94)
    rig.backend.q = np.zeros(7)
    rig.service.sim_reset(SimResetCommand(epoch=rig.epoch))
    rig.step(dx=0.02)


def test_a_joint_too_fast_ends_a_joint_reset_and_only_a_recovery_by_name_frees_the_arm(rig):
    job = rig.service.joint_reset(JointResetCommand(epoch=rig.epoch))
    rig.advance(0.1)
    rig.backend.dq = np.array([0.0, -2.1, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.advance(0.002)
    rig.backend.dq = np.zeros(7)
    rig.advance(0.5)
    state = rig.service.state()
    assert (state.mode, state.fault) == (Mode.FAULT, "joint_speed")
    assert rig.backend.calls[-1] == ("cancel_joint_reset",)
    assert rig.service.job(job.id).detail == "joint_speed"
    assert status_of(rig.step) == 423
    assert status_of(rig.service.resume, EpochCommand(epoch=rig.epoch)) == 409
    assert status_of(rig.service.recover, RecoverCommand(epoch=rig.epoch, cause="reflex")) == 422
    rig.service.recover(RecoverCommand(epoch=rig.epoch, cause="joint_speed"))
    rig.step(dx=0.01)


def test_a_move_to_the_edge_counts_with_the_stiffness_that_was_set(rig):
    """17 mm short of the edge: what 6.6 N of the soft wall do to a spring of 400 N/m, and not to one of 2000 N/m."""

    def outcome() -> str:
        rig.backend.follows = True
        rig.service.sim_reset(SimResetCommand(epoch=rig.epoch, pose=at(0.97)))
        job = rig.service.move(MoveCommand(epoch=rig.epoch, pose=at(1.0)))
        rig.backend.follows = False
        rig.backend.place((0.983, 0.0, 0.3))
        rig.advance(3.0)
        return rig.service.job(job.id).state

    assert outcome() == "failed"
    params = ImpedanceParams(translational_stiffness_n_m=400.0, translational_damping_ns_m=40.0)
    rig.service.impedance(ImpedanceCommand(epoch=rig.epoch, params=params))
    assert outcome() == "succeeded"
