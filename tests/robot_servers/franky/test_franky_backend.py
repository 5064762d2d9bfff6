"""The driver on franky-sim: libfranka's own protocol and an arm's physics.

franky-sim makes 1000 steps a second where it can and fewer on a busy machine, so robot time is counted in its steps.
"""

import time

import numpy as np
import pytest

from robot_servers.grippers.franka_hand import FrankaHand
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.robots.messages import (
    GripperCommand,
    ImpedanceCommand,
    ImpedanceParams,
    JointResetCommand,
    LoadCommand,
    Mode,
    RecoverCommand,
    WrenchCommand,
)
from tests.robot_servers.franky.simulated import Served, SimulatedArms, until

STEP_S = 0.001
REST_RAD_S = 0.02


def positions(log):
    return np.array([entry[1] for entry in log])


def soft(stiffness_n_m, **changes):
    damping = 2.0 * stiffness_n_m**0.5
    return ImpedanceParams(translational_stiffness_n_m=stiffness_n_m, translational_damping_ns_m=damping, **changes)


def tracking(served):
    return served.backend._motions.phase.value == "tracking"


def test_it_starts_without_a_motion(arms):
    begin_s = time.monotonic()
    served = Served(arms.address)
    try:
        served.until(lambda: len(arms.ask("log", begin_s)) > 300 and tracking(served))
        moved_m = np.linalg.norm(positions(arms.ask("log", begin_s)) - np.array(served.home[:3]), axis=1).max()
        assert moved_m < 0.001
        assert served.service.state().mode is Mode.HOLD
    finally:
        served.service.close()


def test_the_arm_is_given_the_reflex_thresholds_of_the_limits(served, arms):
    limits = SafetyLimits()
    assert arms.ask("thresholds") == [list(limits.collision_torque_nm), list(limits.collision_force_n)]


def test_it_follows_a_target_and_its_reading_is_consistent(served):
    state = served.follow(dz=0.01, duration_s=2.0)
    np.testing.assert_allclose(np.array(state.tcp_pose[:3]) - served.home[:3], [0.0, 0.0, 0.01], atol=0.002)
    np.testing.assert_allclose(state.tcp_twist, np.array(state.jacobian) @ state.dq, atol=1e-9)
    assert np.linalg.norm(state.tcp_pose[3:]) == pytest.approx(1.0, abs=1e-9)
    assert state.mode is Mode.TRACKING


def test_the_jacobian_is_that_of_the_tool(served):
    """A turn of joint 1 about the base's z takes the tool along z x p."""
    state = served.follow(dx=0.04, duration_s=0.4)
    jacobian = np.array(state.jacobian)
    np.testing.assert_allclose(jacobian[:3, 0], np.cross([0.0, 0.0, 1.0], state.tcp_pose[:3]), atol=1e-4)
    np.testing.assert_allclose(jacobian[3:, 0], [0.0, 0.0, 1.0], atol=1e-6)


def test_an_external_wrench_is_told_with_the_sign_of_the_world_on_the_robot(served, arms):
    arms.ask("wrench", [0.0, 0.0, -8.0, 0.0, 0.0, 0.0])
    try:
        served.until(lambda: served.service.state().tcp_wrench == (0.0, 0.0, -8.0, 0.0, 0.0, 0.0))
        served.until(lambda: served.service.state().tcp_pose[2] < served.home[2] - 0.002, "the push")
        assert served.service.state().tcp_pose[2] > served.home[2] - 0.006  # 8 N at 2000 N/m are 4 mm
    finally:
        arms.ask("wrench", [0.0] * 6)


@pytest.mark.parametrize("clip_m", [0.002, 0.006])
def test_the_error_clip_bounds_the_force_whatever_the_target(served, arms, clip_m):
    """20 N hold back an arm that is told to go on: it gives way, because its clip lets it pull with 4 or 12 N."""
    served.set_gains(ImpedanceParams(translational_clip_m=(clip_m,) * 6))
    served.until(lambda: tracking(served))
    arms.ask("wrench", [0.0, 0.0, -18.0, 0.0, 0.0, 0.0])
    begin_s = time.monotonic()
    try:
        served.until(lambda: served.service.state().tcp_pose[2] < served.home[2] - 0.02, "giving way")
        torque = np.array([entry[4] for entry in arms.ask("log", begin_s)])
        jacobian = np.array(served.service.state().jacobian)
        force = np.linalg.lstsq(jacobian.T, torque.T, rcond=None)[0][2]
        damping_n = 89.0 * 0.25  # of what the arm falls with, at most
        assert force.max() < 2000.0 * clip_m + damping_n
    finally:
        arms.ask("wrench", [0.0] * 6)
    served.until(lambda: served.service.state().mode in (Mode.HOLD, Mode.FAULT))


def test_gains_change_while_it_runs_and_the_arm_gives_way_or_comes_back(served, arms):
    begin_s = time.monotonic()
    served.set_gains(soft(500.0, translational_clip_m=(0.02,) * 6))
    arms.ask("wrench", [0.0, 0.0, -8.0, 0.0, 0.0, 0.0])
    try:
        served.until(lambda: served.service.state().tcp_pose[2] < served.home[2] - 0.01, "16 mm at 500 N/m")
        served.set_gains(ImpedanceParams())
        served.until(lambda: served.service.state().tcp_pose[2] > served.home[2] - 0.006, "4 mm at 2000 N/m")
    finally:
        arms.ask("wrench", [0.0] * 6)
    log = positions(arms.ask("log", begin_s))
    assert np.abs(np.diff(log, axis=0)).max() < 0.25 * STEP_S  # nowhere does it jump
    assert np.abs(log[:, :2] - served.home[:2]).max() < 0.005


def test_gains_do_not_rise_while_the_arm_is_pushed(served, arms):
    served.set_gains(soft(500.0, translational_clip_m=(0.02,) * 6))
    served.until(lambda: tracking(served))
    time.sleep(0.2)
    arms.ask("wrench", [0.0, 0.0, -10.5, 0.0, 0.0, 0.0])
    try:
        served.until(lambda: served.service.state().tcp_wrench[2] < -10.0)
        served.service.impedance(
            ImpedanceCommand(epoch=served.epoch, params=soft(2000.0, translational_clip_m=(0.008,) * 6))
        )
        served.until(lambda: not served.backend._gains.is_settled)
        time.sleep(0.3)
        assert served.backend._gains.params.translational_stiffness_n_m == 500.0
    finally:
        arms.ask("wrench", [0.0] * 6)
    served.until(lambda: served.backend._gains.params.translational_stiffness_n_m == 2000.0, "the rise")


def test_a_feed_forward_wrench_pushes_with_what_was_asked(served, arms):
    """5 N against a spring of 1000 N/m is 5 mm; the tool points down, so its z is the base's -z."""
    served.set_gains(soft(1000.0))
    low_m, begin_s = served.home[2], time.monotonic()
    while time.monotonic() - begin_s < 2.0:
        state = served.service.wrench(WrenchCommand(epoch=served.epoch, wrench=(0.0, 0.0, 5.0, 0.0, 0.0, 0.0)))
        low_m = min(low_m, state.tcp_pose[2])
        time.sleep(0.02)
    assert served.home[2] - low_m == pytest.approx(0.005, abs=0.002)
    served.until(lambda: served.service.state().tcp_pose[2] > served.home[2] - 0.002, "the end of the push")


def test_an_integral_gain_is_refused(served):
    with pytest.raises(Refusal, match="no integral term; send 0, got 1"):
        served.backend.set_impedance(ImpedanceParams(translational_ki=1.0))


def test_the_arm_takes_a_payload_at_rest_and_goes_on(served, arms):
    command = LoadCommand(
        epoch=served.epoch,
        mass_kg=0.3,
        center_m=(0.0, 0.0, 0.05),
        inertia_kg_m2=(0.001, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.001),
    )
    served.service.load(command)
    assert arms.ask("load") == 0.3
    served.until(lambda: tracking(served), "tracking again")
    assert served.service.state().fault is None
    served.service.load(LoadCommand(epoch=served.epoch, mass_kg=0.0, center_m=(0.0,) * 3, inertia_kg_m2=(0.0,) * 9))


def test_a_joint_reset_takes_less_than_3_s_with_the_tool_below_its_limit(served, arms):
    served.follow(dx=0.05, dy=0.05, dz=-0.05, duration_s=1.5)
    served.hold_lease()
    begin_s = time.monotonic()
    job = served.service.joint_reset(JointResetCommand(epoch=served.epoch))
    served.until(lambda: served.service.job(job.id).state != "running", "the joint reset")
    log = arms.ask("log", begin_s)
    assert served.service.job(job.id).state == "succeeded"
    assert len(log) * STEP_S < 3.0
    speed_m_s = np.linalg.norm(positions(log)[20:] - positions(log)[:-20], axis=1) / (20 * STEP_S)
    assert speed_m_s.max() < SafetyLimits().speed_m_s
    served.until(lambda: tracking(served), "tracking again")
    x, y, z, *_ = served.service.state().tcp_pose
    state = served.follow(dz=0.01, home=(x, y, z, *served.home[3:]), duration_s=1.5)
    assert state.tcp_pose[2] - z == pytest.approx(0.01, abs=0.003)


def test_a_stop_ends_a_joint_reset_on_its_way(served, arms):
    served.follow(dx=-0.08, duration_s=1.0)
    served.service.joint_reset(JointResetCommand(epoch=served.epoch))
    served.until(lambda: served.backend._motions.phase.value == "resetting")
    time.sleep(0.3)
    stop_s = time.monotonic()
    served.service.stop()
    served.until(lambda: tracking(served), "holding")
    assert served.service.state().mode is Mode.STOPPED
    log = arms.ask("log", stop_s)
    moving = [i for i, entry in enumerate(log) if max(map(abs, entry[3])) > REST_RAD_S]
    assert (max(moving) if moving else 0) * STEP_S < 0.45


def test_the_gripper_moves_and_the_arm_does_not_wait(arms):
    served = Served(arms.address, gripper=FrankaHand(arms.address))
    try:
        for position in (1.0, 0.0, 0.5):
            begin_s = time.monotonic()
            served.service.gripper(GripperCommand(epoch=served.epoch, position=position))
            assert time.monotonic() - begin_s < 0.5  # the fingers take longer
            served.until(lambda to=position: abs(served.service.state().gripper - to) < 0.05, "the fingers")
            assert arms.ask("finger_width") == pytest.approx(0.08 * position, abs=0.004)
        assert served.service.state().fault is None
    finally:
        served.service.close()


def test_without_a_gripper_a_command_to_it_is_refused(served):
    with pytest.raises(Refusal, match="without a gripper"):
        served.service.gripper(GripperCommand(epoch=served.epoch, position=1.0))


def test_a_reflex_latches_and_nothing_recovers_until_it_is_asked_for(served, arms):
    before = arms.ask("recoveries")
    served.follow(dx=0.03, duration_s=0.3)
    reflex_s = time.monotonic()
    arms.ask("reflex")
    served.until(lambda: served.service.state().mode is Mode.FAULT, "the fault")
    assert time.monotonic() - reflex_s < 5.0
    assert served.service.state().fault == "reflex"
    with pytest.raises(Refusal, match="latched by 'reflex'"):
        served.follow(dx=0.03, duration_s=0.2)
    rest_s = time.monotonic()
    served.until(lambda: time.monotonic() - rest_s > 1.0)
    assert arms.ask("recoveries") == before
    assert arms.ask("moving") == 0
    moved = np.ptp(positions(arms.ask("log", rest_s))[100:], axis=0)
    assert moved.max() < 0.001
    served.service.recover(RecoverCommand(epoch=served.epoch, cause="reflex"))
    served.until(lambda: tracking(served), "tracking again")
    assert arms.ask("recoveries") == before + 1
    assert served.service.state().mode is Mode.HOLD
    assert np.ptp(positions(arms.ask("log", rest_s))[100:], axis=0).max() < 0.001


def test_an_arm_in_a_reflex_when_the_server_starts_is_reported_and_left_as_it_is(arms):
    arms.ask("reflex")
    before = arms.ask("recoveries")
    served = Served(arms.address)
    try:
        served.until(lambda: served.service.state().fault == "reflex", "the fault")
        assert arms.ask("recoveries") == before
        served.service.recover(RecoverCommand(epoch=served.epoch, cause="reflex"))
        served.until(lambda: tracking(served), "tracking")
    finally:
        served.service.close()


def test_two_arms_are_two_drivers():
    two = SimulatedArms(2)
    try:
        left, right = (Served(address) for address in two.addresses)
        before = right.service.state().tcp_pose
        left.follow(dz=0.01, duration_s=1.5)
        assert left.service.state().tcp_pose[2] - left.home[2] == pytest.approx(0.01, abs=0.003)
        np.testing.assert_allclose(right.service.state().tcp_pose[:3], before[:3], atol=0.001)
        left.service.close()
        right.service.close()
    finally:
        two.kill()


def test_a_cut_connection_latches_and_a_recovery_connects_again():
    arms = SimulatedArms()
    address = arms.address
    served = Served(address)
    try:
        served.follow(dz=0.01, duration_s=0.3)
        arms.kill()
        until(lambda: served.service.state().fault is not None, "the fault")
        assert served.service.state().fault == "connection_lost"
        served.hold_lease()
        with pytest.raises(Refusal, match=r"does not take the recovery: .*activate FCI in Desk"):
            served.service.recover(RecoverCommand(epoch=served.epoch, cause="connection_lost"))
        arms = SimulatedArms(addresses=[address])
        served.hold_lease()
        served.service.recover(RecoverCommand(epoch=served.epoch, cause="connection_lost"))
        served.until(lambda: tracking(served), "tracking")
        assert served.service.state().fault is None
    finally:
        arms.kill()
        served.service.close()
