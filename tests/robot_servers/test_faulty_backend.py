"""Faults on demand: each does what it says to the driver that it is around, and the log tells what the arm was told."""

import math

import numpy as np
import pytest

from robot_servers.backend import measured_in
from robot_servers.faulty_backend import FaultyBackend
from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import PointMassBackend
from serl_core.robots.messages import LeaseRequest, PoseCommand, SimAdvanceCommand


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(PointMassBackend())


@pytest.fixture
def seen(backend):
    """The time of each tick that reaches the kernel."""
    times: list[float] = []
    service = RobotService(PointMassBackend())
    service.start()

    def servo(now_s, measured):
        times.append((now_s, measured.position_m.copy()))
        return service._servo(now_s, measured_in(service.backend.state()))

    backend.start(servo)
    backend.advance(0.005)
    times.clear()
    return times


def test_a_freeze_keeps_the_reading_and_the_kernel_out(backend, seen):
    before = backend.state()
    backend.state_freeze(0.01)
    backend.advance(0.009)
    assert (backend.state(), seen) == (before, [])
    backend.advance(0.002)
    assert backend.state().stamp_s > before.stamp_s
    assert seen


def test_lost_packets_keep_the_kernel_out_and_too_many_are_a_fault(backend, seen):
    backend.packet_loss(20)
    backend.advance(0.02)
    assert (seen, backend.fault(), backend.lost_packets) == ([], None, 20)
    backend.advance(0.001)
    backend.packet_loss(21)
    backend.advance(0.021)
    assert backend.fault() == "communication_constraints_violation"
    backend.recover()
    assert (backend.fault(), backend.recoveries) == (None, 1)


def test_readings_that_are_no_numbers_reach_the_kernel_and_the_state(backend, seen):
    backend.nan_state(2)
    backend.advance(0.002)
    assert all(math.isnan(position[0]) for _, position in seen)
    assert math.isnan(backend.state().tcp_pose[0])
    backend.advance(0.001)
    assert not math.isnan(backend.state().tcp_pose[0])


def test_a_driver_that_died_recovers_no_more(backend, seen):
    backend.die()
    backend.advance(0.01)
    assert (seen, backend.fault()) == ([], "control_loop_died")
    with pytest.raises(Refusal, match="start the robot server again"):
        backend.recover()


def test_a_joint_reset_that_is_stuck_is_always_far(backend, seen):
    assert backend.joint_reset_error_rad() is None
    backend.stick()
    backend.start_joint_reset()
    backend.advance(2.0)
    assert backend.joint_reset_error_rad() == 1.0


def test_the_log_has_the_torques_of_a_simulated_arm_the_same_to_the_bit_in_each_run():
    def run() -> list:
        backend = FaultyBackend(MujocoBackend("ram_insertion", is_lockstep=True))
        service = RobotService(backend)
        service.start()
        epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
        x, y, z, *turn = service.state().tcp_pose
        service.pose(PoseCommand(epoch=epoch, pose=(x, y + 0.05, z, *turn)))
        service.sim_advance(SimAdvanceCommand(epoch=epoch, duration_s=0.1))
        return list(backend.log)

    log = run()
    assert log == run()
    torques = np.array([tick.torque_nm for tick in log])
    assert torques.shape[1] == 7
    assert np.abs(np.diff(torques[1:], axis=0)).max() > 0.0
