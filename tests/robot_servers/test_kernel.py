"""The safety kernel: pure, on a clock of its own, with an arm that follows the set-point."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_servers.backend import Measured
from robot_servers.kernel import SafetyKernel
from robot_servers.limits import Refusal, SafetyLimits, check_pose
from robot_servers.testing import JOINT_LIMITS
from serl_core.robots.messages import Mode, MoveCommand, Vector7

HOME: Vector7 = (0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)
TICK_S = 0.001
AT_REST = (np.zeros(7), np.zeros(7), np.zeros((6, 7)))
PUSH = (5.0, 0.0, -3.0, 0.0, 0.0, 1.0)


class Rig:
    """A kernel with its lease taken, and an arm that covers a tenth of the way to the set-point each tick."""

    def __init__(self, limits: SafetyLimits | None = None) -> None:
        self.events: list[tuple[str, str]] = []
        self.kernel = SafetyKernel(limits or SafetyLimits(), JOINT_LIMITS, lambda *event: self.events.append(event))
        self.position = np.array(HOME[:3])
        self.quaternion = np.array(HOME[3:])
        self.q, self.dq, self.jacobian = AT_REST
        self.joint_rad_m = 0.0  # how much joint 1 turns when the arm moves along x
        self.ticks = 0
        self.log: list[tuple[float, ...]] = []
        self.follows = True
        self.wrench: tuple[float, ...] | None = None  # in the newest reference
        self.run(0.001)
        self.epoch = self.kernel.acquire("test", 0.0).epoch

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / TICK_S)):
            self.ticks += 1
            reference = self.kernel.tick(self.ticks * TICK_S, self.measured)
            self.log.append((*reference.position_m.tolist(), *reference.quaternion.tolist()))
            self.wrench = None if reference.wrench is None else tuple(reference.wrench.tolist())
            if self.follows:
                way = 0.1 * (reference.position_m - self.position)
                self.position = self.position + way
                self.q = self.q + np.array([self.joint_rad_m * way[0], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
                self.quaternion = reference.quaternion

    @property
    def measured(self) -> Measured:
        return Measured(self.position, self.quaternion, self.q, self.dq, self.jacobian)

    def put(self, x: float, y: float = 0.0, z: float = 0.3) -> None:
        """Hold the arm at another place, where it stays whatever it is told."""
        self.follows = False
        self.position = np.array([x, y, z])
        self.kernel.hold()
        self.run(TICK_S)

    def couple(self, q_rad: float, rad_m: float = 1.0) -> None:
        """Joint 1, with limits of 3 rad, is at `q_rad`; moving along x turns it, as its Jacobian says if by 1 rad/m."""
        self.q = np.array([q_rad, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        self.joint_rad_m = rad_m
        self.jacobian = np.zeros((6, 7))
        self.jacobian[0, 0] = 1.0
        self.run(TICK_S)

    def turn(self, joint: int, speed_rad_s: float) -> None:
        """Let a joint be measured that fast from now on."""
        self.dq = np.zeros(7)
        self.dq[joint] = speed_rad_s

    def track(self, dx: float = 0.0, dy: float = 0.0, dz: float = 0.0, sequence: int | None = None) -> None:
        """Send a target relative to the measured pose."""
        position = self.position + np.array([dx, dy, dz])
        self.kernel.track(self.epoch, sequence, (*position.tolist(), *HOME[3:]), 0.0)

    @property
    def job(self) -> tuple[str, str]:
        assert self.kernel.job is not None
        return self.kernel.job.state, self.kernel.job.detail

    def move(self, x: float, y: float = 0.0, z: float = 0.3) -> None:
        self.kernel.move(MoveCommand(epoch=self.epoch, pose=(x, y, z, *HOME[3:])))

    def push(self, wrench: tuple[float, ...] = PUSH) -> None:
        self.kernel.push(self.epoch, wrench, 0.0)

    def drift(self, speed_m_s: float, duration_s: float) -> None:
        """Let the arm move along x by itself."""
        self.follows = False
        for _ in range(round(duration_s / TICK_S)):
            self.position = self.position + np.array([speed_m_s * TICK_S, 0.0, 0.0])
            self.run(TICK_S)

    @property
    def set_point(self) -> tuple[float, ...]:
        return self.log[-1]


def refused(call, *arguments) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


# ---- watchdog and hold


def test_it_holds_the_measured_pose_when_commands_cease():
    rig = Rig()
    rig.track(dx=0.09)
    rig.run(0.30)
    assert rig.kernel.mode is Mode.TRACKING
    measured = tuple(rig.position)
    rig.run(0.002)
    assert rig.kernel.mode is Mode.HOLD
    np.testing.assert_allclose(rig.set_point[:3], measured, atol=1e-3)
    assert ("watchdog", "no command for 0.3 s: hold") in rig.events


def test_a_hold_does_not_creep_when_the_arm_is_pushed():
    """Taking the measured pose anew in each tick would make the arm drift along with any force."""
    rig = Rig()
    rig.track(dx=0.05)
    rig.run(0.5)
    held = rig.set_point
    rig.follows = False
    for push in np.linspace(0.0, 0.05, 50):
        rig.position = np.array(held[:3]) + [push, 0.0, 0.0]
        rig.run(0.005)
    assert rig.set_point == held


def test_commands_in_time_keep_it_tracking():
    rig = Rig()
    for _ in range(20):
        rig.track(dx=0.002)
        rig.run(0.1)
        assert rig.kernel.mode is Mode.TRACKING


def test_a_stream_of_refused_commands_does_not_feed_the_watchdog():
    rig = Rig()
    rig.track(dx=0.05)
    for _ in range(4):
        rig.run(0.1)
        assert refused(rig.track, 0.5).status == 422
    assert rig.kernel.mode is Mode.HOLD


def test_before_the_first_reading_whatever_moves_is_refused():
    kernel = SafetyKernel(SafetyLimits(), JOINT_LIMITS)
    epoch = kernel.acquire("test", 0.0).epoch
    assert refused(kernel.track, epoch, 1, HOME, 0.0).status == 503
    assert refused(kernel.push, epoch, PUSH, 0.0).status == 503
    assert refused(kernel.move, MoveCommand(epoch=epoch, pose=HOME)).status == 503
    assert refused(kernel.check_joint_reset, epoch).status == 503


def test_before_the_first_sound_reading_there_is_no_set_point():
    """It was the origin of the base frame, and the arm was pulled there."""
    kernel = SafetyKernel(SafetyLimits(), JOINT_LIMITS)
    unknown = kernel.tick(0.001, Measured(np.full(3, math.nan), np.full(4, math.nan), *AT_REST))
    assert not np.isfinite(unknown.position_m).any()
    assert not np.isfinite(unknown.quaternion).any()
    known = kernel.tick(0.002, Measured(np.array(HOME[:3]), np.array(HOME[3:]), *AT_REST))
    assert (*known.position_m, *known.quaternion) == HOME


# ---- what is refused


@pytest.mark.parametrize(
    ("pose", "field"),
    [
        ((math.nan, *HOME[1:]), "pose[0]"),
        ((0.55, 0.0, 0.3, 1.0, 0.0, 0.0, math.inf), "pose[6]"),
        ((0.55, 0.0, 0.3, 0.5, 0.0, 0.0, 0.0), "pose[3]"),
        ((0.55, 0.0, -0.06, 1.0, 0.0, 0.0, 0.0), "pose[2]"),
        ((0.7, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0), "pose"),
        ((0.5, 0.0, 0.3, math.cos(0.3), math.sin(0.3), 0.0, 0.0), "pose[3]"),
        ((0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0), "pose[3]"),
    ],
)
def test_a_refused_target_changes_nothing_bit_for_bit(pose, field):
    def run(sends_bad: bool) -> list[tuple[float, ...]]:
        rig = Rig()
        for step in range(8):
            rig.track(dx=0.01, sequence=step)
            rig.run(0.03)
            if sends_bad:
                refusal = refused(rig.kernel.track, rig.epoch, step + 1, pose, 0.0)
                assert (refusal.status, refusal.field) == (422, field)
            rig.run(0.07)
        return rig.log

    assert run(sends_bad=True) == run(sends_bad=False)


def test_an_old_epoch_and_an_old_sequence_are_refused():
    rig = Rig()
    rig.track(sequence=3)
    assert refused(lambda: rig.track(dx=0.01, sequence=3)).status == 409
    assert refused(rig.kernel.track, rig.epoch - 1, 4, HOME, 0.0).status == 409
    rig.kernel.release(rig.epoch)
    assert refused(rig.track).status == 409


def test_a_release_holds_the_arm():
    rig = Rig()
    rig.track(dx=0.09)
    rig.run(0.1)
    rig.kernel.release(rig.epoch)
    rig.run(0.001)
    assert rig.kernel.mode is Mode.HOLD


def test_a_lost_lease_holds_the_arm_also_on_a_move():
    rig = Rig()
    rig.move(0.7)
    rig.run(0.5)
    rig.kernel.expire_lease(2.1)
    rig.run(0.001)
    held = rig.set_point
    assert rig.kernel.mode is Mode.HOLD
    rig.run(1.0)
    assert rig.set_point == held
    assert rig.kernel.job is not None
    assert rig.kernel.job.state == "cancelled"


# ---- the feed-forward wrench


def test_a_wrench_acts_until_its_time_out_and_leaves_the_set_point_alone():
    rig = Rig()
    held = rig.set_point
    rig.push()
    assert rig.kernel.mode is Mode.TRACKING
    rig.run(0.099)
    assert rig.wrench == PUSH
    rig.run(0.002)
    assert rig.wrench is None
    assert rig.kernel.mode is Mode.HOLD
    assert rig.set_point == held
    assert ("watchdog", "no wrench for 0.1 s: zero") in rig.events


def test_wrenches_in_time_go_on():
    rig = Rig()
    for force in range(10):
        rig.push((float(force), 0.0, 0.0, 0.0, 0.0, 0.0))
        rig.run(0.09)
        assert rig.wrench == (force, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_time_out_and_limits_of_a_wrench_come_from_the_limits():
    rig = Rig(SafetyLimits(wrench_timeout_s=0.02, wrench_force_n=1.0, wrench_torque_nm=0.5))
    assert refused(rig.push).field == "wrench[0]"
    rig.push((1.0, 0.0, 0.0, 0.0, 0.0, 0.5))
    rig.run(0.019)
    assert rig.wrench is not None
    rig.run(0.002)
    assert rig.wrench is None


@pytest.mark.parametrize(
    ("wrench", "field"),
    [
        ((20.1, 0.0, 0.0, 0.0, 0.0, 0.0), "wrench[0]"),
        ((0.0, 0.0, 0.0, 0.0, -5.1, 0.0), "wrench[4]"),
        ((0.0, math.nan, 0.0, 0.0, 0.0, 0.0), "wrench[1]"),
    ],
)
def test_a_refused_wrench_neither_acts_nor_feeds_the_time_out(wrench, field):
    rig = Rig()
    assert refused(rig.push, wrench).field == field
    assert rig.kernel.mode is Mode.HOLD
    rig.push()
    for _ in range(3):
        rig.run(0.04)
        assert refused(rig.push, wrench).status == 422
    assert rig.wrench is None


def test_a_wrench_needs_the_lease_an_arm_that_is_free_and_no_move():
    rig = Rig()
    assert refused(rig.kernel.push, rig.epoch - 1, PUSH, 0.0).status == 409
    rig.move(0.6)
    assert refused(rig.push).status == 423
    rig.kernel.stop()
    rig.run(0.001)
    assert refused(rig.push).status == 423
    kernel = SafetyKernel(SafetyLimits(), JOINT_LIMITS)
    assert refused(kernel.push, kernel.acquire("test", 0.0).epoch, PUSH, 0.0).status == 503


def test_wrenches_count_for_the_rate_of_commands():
    rig = Rig()
    for _ in range(20):
        rig.push()
    assert refused(rig.push).status == 429


@pytest.mark.parametrize("is_tracking", [False, True])
@pytest.mark.parametrize(
    ("end", "mode"),
    [
        (lambda rig: rig.kernel.hold(), Mode.HOLD),
        (lambda rig: rig.kernel.stop(), Mode.STOPPED),
        (lambda rig: rig.kernel.latch("reflex"), Mode.FAULT),
        (lambda rig: rig.kernel.expire_lease(2.1), Mode.HOLD),
        (lambda rig: rig.kernel.release(rig.epoch), Mode.HOLD),
        (lambda rig: rig.kernel.rebase(rig.measured), Mode.HOLD),
        (lambda rig: rig.move(0.6), Mode.MOVING),
        (lambda rig: rig.kernel.begin_joint_reset(), Mode.MOVING),
    ],
)
def test_whatever_ends_a_command_takes_the_wrench_away_at_the_next_tick(end, mode, is_tracking):
    rig = Rig()
    if is_tracking:
        rig.track(dx=0.05)
    rig.push()
    rig.run(0.02)
    assert rig.wrench == PUSH
    end(rig)
    rig.run(0.001)
    assert rig.wrench is None
    assert rig.kernel.mode is mode


@pytest.mark.parametrize("clear", [lambda rig: rig.kernel.resume(rig.epoch), lambda rig: rig.kernel.recover()])
def test_a_wrench_of_before_a_stop_does_not_come_back(clear):
    """Stopped and resumed, or faulted and recovered, before any tick could see it."""
    rig = Rig()
    rig.push()
    rig.kernel.stop()
    rig.kernel.latch("reflex")
    clear(rig)
    rig.run(0.001)
    assert rig.wrench is None


def test_a_stop_under_a_wrench_holds_the_arm_where_it_is_pushed_to():
    rig = Rig()
    rig.push()
    rig.drift(0.1, 0.05)
    rig.kernel.stop()
    rig.run(0.001)
    assert rig.set_point[:3] == tuple(rig.position.tolist())


def test_an_arm_too_fast_under_a_wrench_is_held_without_it():
    rig = Rig()
    rig.push()
    rig.drift(0.24, 0.05)
    assert rig.wrench == PUSH
    rig.drift(0.4, 0.01)
    assert rig.wrench is None
    assert rig.kernel.mode is Mode.HOLD
    assert rig.set_point[0] > 0.51
    assert any(what == "wrench" and "hold" in detail for what, detail in rig.events)


def test_an_arm_already_too_fast_is_not_pushed_for_one_tick():
    """Else a client that sends a wrench after each hold would push a fast arm on, a few ticks at a time."""
    rig = Rig()
    rig.drift(0.3, 0.01)
    for _ in range(5):
        rig.push()
        rig.drift(0.3, 0.001)
        assert rig.wrench is None


def test_noise_of_the_measured_pose_is_not_speed():
    rig = Rig()
    rig.follows = False
    random = np.random.default_rng(0)
    rig.push()
    for _ in range(80):
        rig.position = np.array(HOME[:3]) + random.normal(0.0, 5e-5, 3)
        rig.run(0.001)
        assert rig.wrench == PUSH


def test_a_dropped_reading_is_not_speed():
    rig = Rig()
    rig.push()
    rig.drift(0.22, 0.03)
    good = rig.position
    rig.position = np.full(3, math.nan)
    rig.run(0.001)
    rig.position = good + np.array([0.22 * TICK_S, 0.0, 0.0])
    rig.drift(0.22, 0.01)
    assert rig.wrench == PUSH


def test_targets_and_a_wrench_go_together_and_the_wrench_does_not_feed_their_watchdog():
    rig = Rig()
    rig.track(dx=0.02)
    for _ in range(4):
        rig.push()
        rig.run(0.07)
    assert rig.set_point[0] == pytest.approx(0.52, abs=1e-6)
    assert rig.wrench == PUSH
    rig.run(0.021)
    assert rig.wrench is None
    assert rig.kernel.mode is Mode.HOLD


# ---- moves


def test_a_move_arrives_and_holds_its_goal():
    rig = Rig()
    rig.move(0.7, 0.1, 0.4)
    assert rig.kernel.mode is Mode.MOVING
    rig.run(4.0)
    assert rig.kernel.job is not None
    assert rig.kernel.job.state == "succeeded"
    assert rig.kernel.mode is Mode.HOLD
    assert rig.set_point[:3] == (0.7, 0.1, 0.4)
    rig.run(1.0)
    assert rig.set_point[:3] == (0.7, 0.1, 0.4)


def test_a_move_started_while_tracking_keeps_the_acceleration_limit():
    rig = Rig()
    for _ in range(5):
        rig.track(dx=0.03)
        rig.run(0.1)
    rig.move(0.4)
    rig.run(3.0)
    path = np.array(rig.log)[:, :3]
    acceleration = np.diff(path, 2, axis=0) / TICK_S**2
    assert np.linalg.norm(acceleration, axis=1).max() <= 2.0 + 1e-3


def test_a_blocked_move_fails_and_says_how_far_off():
    rig = Rig()
    rig.follows = False
    rig.move(0.52)
    rig.run(4.0)
    assert rig.kernel.job is not None
    assert (rig.kernel.job.state, rig.kernel.mode) == ("failed", Mode.HOLD)
    assert "20.0 mm" in rig.kernel.job.detail


def test_a_move_out_of_the_box_or_too_fast_is_refused():
    rig = Rig()
    assert refused(rig.move, 1.2).field == "pose[0]"
    fast = MoveCommand(epoch=rig.epoch, pose=HOME, speed_m_s=0.3)
    assert refused(rig.kernel.move, fast).field == "speed_m_s"
    assert rig.kernel.mode is Mode.HOLD


def swung_out(rig):
    """Turn the arm; return a move both of whose ends are within 0.8 rad, but which swings the tool out to 0.98 rad."""
    start = Rotation.from_rotvec([0.0, 0.75, 0.0]) * Rotation.from_quat(HOME[3:])
    swing = 0.6
    axis = np.array([math.sin(swing) * math.cos(2.58), math.sin(swing) * math.sin(2.58), -math.cos(swing)])
    goal = Rotation.from_rotvec(2.8 * axis) * start
    rig.follows = False
    rig.quaternion = start.as_quat()
    pose = (*HOME[:3], *goal.as_quat().tolist())
    check_pose(pose, rig.kernel.limits)
    return MoveCommand(epoch=rig.epoch, pose=pose)


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "about to hold"])
def test_a_move_whose_way_leaves_the_cone_is_refused(is_held):
    rig = Rig()
    move = swung_out(rig)
    rig.run(TICK_S)
    rig.kernel.hold()
    rig.run(TICK_S if is_held else 0.0)
    assert refused(rig.kernel.move, move).kind == "tilt"


def test_a_refused_move_pushes_no_held_arm():
    """The whole soft wall came back before the last check: the arm went where nobody had sent it."""
    rig = Rig()
    move = swung_out(rig)
    rig.put(0.98)
    assert refused(rig.kernel.move, move).kind == "tilt"
    rig.run(TICK_S)
    assert not np.any(rig.wrench)


def test_a_refused_move_leaves_a_hold_that_waits_to_its_tick():
    rig = Rig()
    move = swung_out(rig)
    rig.track(dx=0.05)
    rig.run(0.01)
    rig.kernel.hold()
    events = list(rig.events)
    assert refused(rig.kernel.move, move).kind == "tilt"
    assert (rig.kernel.mode, rig.events) == (Mode.TRACKING, events)
    rig.run(TICK_S)
    assert rig.kernel.mode is Mode.HOLD


def test_a_move_after_a_hold_that_waits_begins_where_the_arm_is():
    rig = Rig()
    rig.follows = False
    rig.track(dx=0.05)
    rig.run(0.2)
    assert rig.set_point[0] > HOME[0] + 0.01
    rig.kernel.hold()
    rig.move(0.45)
    rig.run(TICK_S)
    assert rig.set_point[0] == pytest.approx(HOME[0], abs=1e-6)


def test_during_a_move_targets_get_423_and_another_move_409():
    rig = Rig()
    rig.move(0.7)
    rig.run(0.1)
    assert refused(rig.track).status == 423
    assert refused(rig.move, 0.6).status == 409
    assert refused(rig.kernel.check_joint_reset, rig.epoch).status == 409


def test_during_a_joint_reset_the_set_point_follows_the_arm_and_then_holds():
    rig = Rig()
    rig.kernel.check_joint_reset(rig.epoch)
    rig.kernel.begin_joint_reset()
    rig.follows = False
    rig.position = np.array([0.45, 0.1, 0.5])
    rig.run(0.01)
    assert rig.set_point[:3] == (0.45, 0.1, 0.5)
    rig.kernel.end_joint_reset()
    rig.run(0.001)
    rig.position = np.array([0.45, 0.1, 0.51])
    rig.run(0.01)
    assert rig.set_point[:3] == (0.45, 0.1, 0.5)
    assert rig.kernel.mode is Mode.HOLD


def test_a_joint_reset_that_never_arrives_latches():
    rig = Rig(SafetyLimits(joint_reset_timeout_s=0.5))
    rig.kernel.begin_joint_reset()
    rig.run(0.6)
    assert (rig.kernel.mode, rig.kernel.fault) == (Mode.FAULT, "reset_failed")


# ---- stop and faults


def test_a_stop_freezes_the_set_point_and_only_resume_clears_it():
    rig = Rig()
    rig.track(dx=0.09)
    rig.run(0.1)
    rig.kernel.stop()
    assert rig.kernel.mode is Mode.STOPPED
    rig.run(0.001)
    held = rig.set_point
    rig.run(0.5)
    assert rig.set_point == held
    refusal = refused(rig.track)
    assert (refusal.status, refusal.given) == (423, "stop")
    assert refused(rig.move, 0.6).status == 423
    assert refused(rig.kernel.check_recover, rig.epoch, "stop").status == 409
    assert refused(rig.kernel.resume, rig.epoch - 1).status == 409
    rig.kernel.release(rig.epoch)
    rig.epoch = rig.kernel.acquire("another", 0.0).epoch
    assert refused(rig.track).status == 423
    rig.kernel.resume(rig.epoch)
    rig.run(0.2)
    assert rig.kernel.mode is Mode.HOLD
    np.testing.assert_allclose(rig.set_point[:3], held[:3], atol=1e-3)


def test_a_stop_that_comes_during_a_resume_stays():
    """It was cleared with the one before: the arm went on although somebody had just stopped it."""
    rig = Rig()
    rig.kernel.stop("first")
    rig.kernel._on_event = lambda what, detail: rig.kernel.stop("second") if what == "resume" else None
    rig.kernel.resume(rig.epoch)
    assert (rig.kernel.mode, rig.kernel.fault) == (Mode.STOPPED, "second")
    assert refused(rig.track).status == 423
    rig.kernel._on_event = lambda what, detail: None
    rig.kernel.resume(rig.epoch)
    assert rig.kernel.fault is None


def test_a_stop_cancels_a_move():
    rig = Rig()
    rig.move(0.7)
    rig.run(0.3)
    rig.kernel.stop()
    rig.run(0.001)
    held = rig.set_point
    rig.run(0.5)
    assert rig.kernel.job is not None
    assert rig.kernel.job.state == "cancelled"
    assert rig.set_point == held


def test_resume_without_a_stop_is_refused():
    rig = Rig()
    assert refused(rig.kernel.resume, rig.epoch).status == 409


def test_a_fault_is_cleared_only_by_its_own_name():
    rig = Rig()
    rig.track(dx=0.05)
    rig.run(0.1)
    rig.kernel.latch("reflex")
    rig.kernel.latch("joint_limit")
    rig.run(0.01)
    held = rig.set_point
    assert (rig.kernel.mode, rig.kernel.fault) == (Mode.FAULT, "reflex")
    assert refused(rig.track).status == 423
    assert refused(rig.kernel.resume, rig.epoch).status == 409
    outcome = refused(rig.kernel.check_recover, rig.epoch, "joint_limit")
    assert (outcome.status, outcome.field, outcome.limit) == (422, "cause", "reflex")
    assert refused(rig.kernel.check_recover, rig.epoch - 1, "reflex").status == 409
    rig.kernel.check_recover(rig.epoch, "reflex")
    rig.kernel.recover()
    rig.run(1.0)
    assert rig.kernel.mode is Mode.HOLD
    np.testing.assert_allclose(rig.set_point[:3], held[:3], atol=1e-3)


def test_a_stop_stays_latched_under_a_fault_and_after_its_recovery():
    rig = Rig()
    rig.kernel.stop()
    rig.kernel.latch("reflex")
    rig.run(0.01)
    rig.kernel.check_recover(rig.epoch, "reflex")
    rig.kernel.recover()
    assert rig.kernel.mode is Mode.STOPPED


@pytest.mark.parametrize(("x", "is_latched"), [(0.081, False), (0.079, True), (1.019, False), (1.021, True)])
def test_an_arm_measured_two_centimetres_outside_the_box_is_latched(x, is_latched):
    rig = Rig()
    rig.follows = False
    rig.position = np.array([x, 0.0, 0.3])
    rig.run(0.001)
    assert (rig.kernel.fault == "outside_box") is is_latched


def test_an_arm_recovered_outside_the_box_may_be_brought_back_but_goes_no_further_out():
    """It latched again in the next tick, so that nothing could ever bring it back."""
    rig = Rig()
    rig.follows = False
    rig.position = np.array([1.05, 0.0, 0.3])
    rig.run(0.001)
    rig.kernel.check_recover(rig.epoch, "outside_box")
    rig.kernel.recover()
    rig.position = np.array([1.054, 0.0, 0.3])
    rig.run(0.01)
    assert rig.kernel.mode is Mode.HOLD
    rig.position = np.array([1.056, 0.0, 0.3])
    rig.run(0.001)
    assert rig.kernel.fault == "outside_box"
    rig.kernel.recover()
    rig.follows = True
    rig.move(0.9)
    rig.run(5.0)
    assert rig.kernel.fault is None
    np.testing.assert_allclose(rig.position, [0.9, 0.0, 0.3], atol=1e-3)
    rig.follows = False
    rig.position = np.array([1.021, 0.0, 0.3])  # once back, the limit is the old one
    rig.run(0.001)
    assert rig.kernel.fault == "outside_box"


def test_readings_that_are_not_finite_are_dropped_and_three_in_a_row_latch():
    rig = Rig()
    rig.track(dx=0.05)
    rig.run(0.1)
    rig.follows = False
    good = rig.position
    for _ in range(3):
        for _ in range(2):
            rig.position = np.array([math.nan, 0.0, 0.3])
            rig.run(0.001)
        rig.position = good
        rig.run(0.001)
    assert rig.kernel.fault is None
    rig.position = np.array([0.5, math.inf, 0.3])
    rig.run(0.003)
    assert rig.kernel.fault == "numeric_fault"
    assert np.isfinite(rig.set_point).all()


# ---- joint speed


@pytest.mark.parametrize("speed", [2.01, -2.01])
@pytest.mark.parametrize(
    "begin",
    [lambda rig: rig.track(dx=0.05), lambda rig: rig.push(), lambda rig: rig.move(0.6), lambda rig: None],
    ids=["target", "wrench", "move", "hold"],
)
def test_a_joint_above_its_speed_latches_and_the_arm_holds_where_it_is(begin, speed):
    rig = Rig()
    begin(rig)
    rig.run(0.05)
    rig.turn(2, speed)
    rig.run(TICK_S)
    assert (rig.kernel.mode, rig.kernel.fault) == (Mode.FAULT, "joint_speed")
    assert rig.wrench is None
    held = rig.set_point
    np.testing.assert_allclose(held[:3], rig.position, atol=1e-3)
    assert ("joint_speed", f"joint 3 turns at {speed:.3f} rad/s, allowed is 2 rad/s") in rig.events
    rig.turn(2, 0.0)
    rig.run(0.5)
    assert rig.set_point == held
    assert refused(rig.track).given == "joint_speed"
    if rig.kernel.job is not None:
        assert rig.job == ("cancelled", "joint_speed")
    rig.kernel.check_recover(rig.epoch, "joint_speed")
    rig.kernel.recover()
    rig.run(TICK_S)
    assert rig.kernel.mode is Mode.HOLD


def test_a_joint_that_is_still_too_fast_after_a_recovery_latches_again():
    rig = Rig()
    rig.turn(0, 3.0)
    rig.run(0.01)
    assert [what for what, _ in rig.events].count("joint_speed") == 1
    rig.kernel.recover()
    rig.run(TICK_S)
    assert rig.kernel.fault == "joint_speed"


def test_a_joint_at_its_speed_is_allowed():
    rig = Rig()
    rig.dq = np.array([2.0, -2.0] * 3 + [2.0])
    rig.run(0.01)
    assert rig.kernel.fault is None


def test_a_joint_reset_ends_when_a_joint_is_too_fast():
    rig = Rig()
    rig.kernel.begin_joint_reset()
    rig.turn(6, 2.5)
    rig.run(TICK_S)
    assert not rig.kernel.is_joint_reset
    assert rig.job == ("cancelled", "joint_speed")


@pytest.mark.parametrize("which", ["q", "dq"])
def test_joints_that_are_not_finite_are_a_reading_that_is_dropped(which):
    rig = Rig()
    rig.follows = False
    setattr(rig, which, np.full(7, math.nan))
    rig.position = np.array([0.6, 0.0, 0.3])
    rig.run(0.002)
    assert rig.kernel.fault is None
    rig.run(TICK_S)
    assert rig.kernel.fault == "numeric_fault"
    assert rig.set_point[0] == 0.5
    assert refused(rig.kernel.rebase, rig.measured).status == 503


# ---- joint limits


def test_a_target_into_a_joints_margin_is_refused_and_changes_nothing():
    rig = Rig()
    rig.couple(2.90)
    refusal = refused(lambda: rig.track(dx=0.06, sequence=1))
    assert (refusal.status, refusal.kind) == (422, "joint_limit")
    rig.run(0.1)
    assert rig.kernel.mode is Mode.HOLD
    rig.track(dx=0.04, sequence=1)


def test_a_set_point_that_takes_a_joint_further_in_than_predicted_is_held():
    rig = Rig()
    rig.couple(2.90, rad_m=2.0)
    rig.track(dx=0.045)
    rig.run(0.29)
    assert rig.kernel.mode is Mode.HOLD
    assert 2.95 < rig.q[0] < 2.96
    held = rig.set_point
    rig.run(0.5)
    assert rig.set_point == held
    assert any(what == "joint_limit" and "joint 1 at 2.95" in detail for what, detail in rig.events)
    rig.track(dx=-0.02)
    rig.run(0.29)
    assert rig.kernel.mode is Mode.TRACKING
    assert rig.q[0] < 2.93


def test_a_move_that_takes_a_joint_into_its_margin_ends_there_and_says_why():
    rig = Rig()
    rig.couple(2.80)
    rig.move(0.75)
    rig.run(4.0)
    state, detail = rig.job
    assert state == "failed"
    assert "joint 1 at 2.95" in detail
    assert "driven further in" in detail
    assert 2.95 < rig.q[0] < 2.96
    assert rig.kernel.mode is Mode.HOLD
    rig.move(0.5)
    rig.run(4.0)
    assert rig.job == ("succeeded", "")


def test_a_move_out_may_begin_although_the_arm_was_pushed_out_ahead_of_its_set_point():
    rig = Rig()
    rig.couple(2.98)
    rig.follows = False
    rig.position, rig.q = rig.position - np.array([0.02, 0.0, 0.0]), rig.q - np.array([0.02] + [0.0] * 6)
    rig.run(0.01)
    rig.follows = True
    rig.move(0.3)
    rig.run(4.0)
    assert rig.job == ("succeeded", "")


def test_an_arm_that_only_holds_near_a_joint_limit_is_left_alone():
    rig = Rig()
    rig.couple(2.98)
    held = rig.set_point
    rig.run(0.1)
    rig.track()
    rig.run(0.1)
    assert (rig.kernel.mode, rig.set_point) == (Mode.TRACKING, held)


def test_a_wrench_ends_where_it_pushes_a_joint_further_in():
    rig = Rig()
    rig.couple(2.94)
    rig.push((5.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    rig.run(0.01)
    assert rig.wrench is not None
    rig.couple(2.96)
    assert rig.wrench is None
    assert any(what == "wrench" and detail.startswith("joint 1 at 2.960 rad") for what, detail in rig.events)
    assert refused(rig.push).kind == "joint_limit"
    away = (-5.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    rig.push(away)
    rig.run(0.01)
    assert rig.wrench == away


# ---- the soft wall


def test_a_commanded_arm_is_pushed_back_inside_each_side_of_the_box():
    """20 mm inside: 200 N/m * 30 mm, in the tool's frame: it points down, so its y and z are the base's -y and -z."""
    rig = Rig()
    rig.put(0.98, -0.38, 0.98)
    assert not np.any(rig.wrench)  # a hold is not moved
    rig.track()
    rig.run(TICK_S)
    np.testing.assert_allclose(rig.wrench, [-6.0, -6.0, 6.0, 0.0, 0.0, 0.0], atol=1e-9)
    assert rig.kernel.mode is Mode.TRACKING
    rig.push((1.0, 2.0, 3.0, 0.0, 0.0, 0.5))
    rig.run(TICK_S)
    np.testing.assert_allclose(rig.wrench, [-5.0, -4.0, 9.0, 0.0, 0.0, 0.5], atol=1e-9)


@pytest.mark.parametrize("limits", [{"soft_wall_m": 0.0}, {"soft_wall_n_m": 0.0}])
def test_without_a_soft_wall_there_is_no_push_and_the_latch_stays(limits):
    rig = Rig(SafetyLimits(**limits))
    rig.put(0.99)
    rig.track()
    rig.run(TICK_S)
    assert not np.any(rig.wrench or 0.0)
    rig.position = np.array([1.021, 0.0, 0.3])
    rig.run(TICK_S)
    assert rig.kernel.fault == "outside_box"


@pytest.mark.parametrize(
    "end", [lambda kernel: kernel.stop(), lambda kernel: kernel.latch("reflex")], ids=["stop", "fault"]
)
@pytest.mark.parametrize("is_moved", [False, True], ids=["tracking", "after a move"])
def test_a_latched_arm_near_the_edge_is_held_without_the_walls_push_and_not_moved_by_the_recovery(end, is_moved):
    """After a move its set-point was left at the goal: without the push the spring took the stopped arm there."""
    rig = Rig()
    if is_moved:
        rig.put(0.95)
        rig.move(0.983)
        rig.position = np.array([0.98, 0.0, 0.3])
        rig.run(4.0)
        assert (rig.job[0], rig.set_point[0]) == ("succeeded", 0.983)
    else:
        rig.put(0.98)
        rig.track(dx=0.01)
        rig.run(0.01)
    np.testing.assert_allclose(rig.wrench[:3], [-6.0, 0.0, 0.0])
    end(rig.kernel)
    rig.run(0.01)
    assert rig.wrench is None
    assert rig.set_point[:3] == tuple(rig.position)
    rig.kernel.recover() if rig.kernel.mode is Mode.FAULT else rig.kernel.resume(rig.epoch)
    rig.run(0.01)
    assert not np.any(rig.wrench)
    assert rig.set_point[:3] == tuple(rig.position)
    rig.position = np.array([0.99, 0.0, 0.3])
    rig.run(TICK_S)
    np.testing.assert_allclose(rig.wrench[:3], [-2.0, 0.0, 0.0])


@pytest.mark.parametrize(("stiffness", "short_m"), [(2000.0, 0.0045), (500.0, 0.0143), (50.0, 0.04)])
@pytest.mark.parametrize(("off_m", "state"), [(0.0, "succeeded"), (0.004, "succeeded"), (0.008, "failed")])
def test_a_move_to_the_edge_has_arrived_where_the_spring_balances_the_wall(stiffness, short_m, off_m, state):
    rig = Rig()
    rig.kernel.stiffness_n_m = stiffness
    rig.put(0.95)
    rig.move(1.0)
    rig.position = np.array([1.0 - short_m, off_m, 0.3])
    rig.run(4.0)
    assert rig.job[0] == state
    if state == "failed":
        assert "the soft wall pushes with" in rig.job[1]


# ---- all of it, at random

DELTA = st.floats(-0.12, 0.12)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("track"), DELTA, DELTA, DELTA),
        st.tuples(st.just("push")),
        st.tuples(st.just("move"), st.floats(0.0, 1.1), st.floats(-0.5, 0.5), st.floats(-0.1, 1.1)),
        st.tuples(st.sampled_from(["stop", "resume", "release", "acquire", "latch", "recover"])),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(COMMANDS, st.lists(st.integers(1, 150), min_size=25, max_size=25))
def test_no_sequence_of_commands_breaks_speed_box_or_latch(commands, pauses):
    rig = Rig()
    kernel = rig.kernel
    calls = {
        "track": rig.track,
        "move": rig.move,
        "push": rig.push,
        "stop": kernel.stop,
        "resume": lambda: kernel.resume(rig.epoch),
        "release": lambda: kernel.release(rig.epoch),
        "latch": lambda: kernel.latch("reflex"),
        "recover": kernel.recover,
    }
    for (name, *arguments), pause in zip(commands, pauses, strict=False):
        before = kernel.mode
        try:
            if name == "acquire":
                rig.epoch = kernel.acquire("test", 0.0).epoch
            else:
                calls[name](*arguments)
        except Refusal:
            assert kernel.mode is before
        start = rig.set_point
        is_latched = kernel.mode in (Mode.STOPPED, Mode.FAULT)
        rig.run(0.001)
        if is_latched:
            start = rig.set_point
        rig.run(pause * TICK_S)
        if is_latched:
            assert rig.set_point == start
            assert rig.wrench is None
    path = np.array(rig.log)
    low, high = np.array(kernel.limits.box_low_m), np.array(kernel.limits.box_high_m)
    assert (path[:, :3] >= low - 1e-9).all()
    assert (path[:, :3] <= high + 1e-9).all()
    np.testing.assert_allclose(np.linalg.norm(path[:, 3:], axis=1), 1.0, atol=1e-9)
    # A hold puts the set-point back onto the arm, which trails it by a few ticks' way at most.
    steps = np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1)
    assert (steps > 0.25 * TICK_S + 1e-9).sum() <= len(commands) + len(pauses)
    assert steps.max(initial=0.0) <= 0.01
