"""The in-process robot: the interface, in lockstep, with errors its user can read."""

import time

import pytest

from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend
from serl_core.clock import ManualClock
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.messages import ImpedanceParams, Mode


@pytest.fixture
def backend() -> PointMassBackend:
    return PointMassBackend()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def robot(backend, clock):
    service = RobotService(backend, liveness=clock)
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    yield robot
    robot.close()
    service.close()


def test_a_step_returns_the_state_at_the_next_tick(robot):
    state = robot.step(HOME, 0.1)
    assert (state.stamp_s, state.mode) == (pytest.approx(0.1), Mode.TRACKING)


def test_the_same_steps_give_the_same_states_to_the_bit():
    def run() -> list:
        service = RobotService(PointMassBackend())
        service.start()
        robot = LocalRobot(service)
        robot.connect()
        return [robot.step((0.5 + 0.003 * i, *HOME[1:]), 0.1) for i in range(20)]

    assert run() == run()


def test_a_move_and_a_joint_reset_block_until_there(robot):
    state = robot.move((0.6, 0.1, 0.4, *HOME[3:]))
    assert state.tcp_pose[:3] == pytest.approx((0.6, 0.1, 0.4), abs=1e-3)
    assert robot.joint_reset().mode is Mode.HOLD


def test_a_blocked_move_raises(robot, backend):
    backend.follows = False
    with pytest.raises(RobotError, match="the move failed: the arm is 100"):
        robot.move((0.6, *HOME[1:]))


def test_an_hour_of_compiling_does_not_cost_the_lease(robot, clock):
    robot.step(HOME, 0.1)
    clock.advance(3600.0)
    assert robot.step(HOME, 0.1).mode is Mode.TRACKING


def test_refusals_become_errors_with_status_and_field(robot):
    with pytest.raises(RobotError, match="outside the workspace") as refused:
        robot.step((2.0, *HOME[1:]), 0.1)
    assert (refused.value.status, refused.value.field) == (422, "pose[0]")
    robot.stop()
    with pytest.raises(RobotFault, match="latched by 'stop'"):
        robot.step(HOME, 0.1)
    robot.resume()
    robot.step(HOME, 0.1)


def test_a_fault_is_recovered_on_request(robot, backend):
    backend.fail("reflex")
    robot.step(HOME, 0.1)
    with pytest.raises(RobotFault):
        robot.step(HOME, 0.1)
    robot.recover()
    robot.step(HOME, 0.1)
    robot.recover()


def test_recovering_a_stopped_arm_does_nothing(robot):
    """It was refused with 409, although without a fault nothing should happen."""
    robot.stop()
    robot.recover()
    assert robot.state().mode is Mode.STOPPED


def test_parameters_reach_the_backend(robot, backend):
    robot.set_impedance(ImpedanceParams())
    robot.set_gripper(0.5)
    robot.set_wrench((1.0, 2.0, 3.0, 0.1, 0.2, 0.3))
    robot.step(HOME, 0.01)
    assert backend.references[-1][8:] == (1.0, 2.0, 3.0, 0.1, 0.2, 0.3)
    robot.sim_reset(seed=4)
    assert [call[0] for call in backend.calls] == ["set_impedance", "set_gripper", "reset"]
    assert robot.health().clock == "lockstep"


def test_without_connect_nothing_moves(robot):
    robot.close()
    robot.close()
    with pytest.raises(RobotError, match="connect"):
        robot.step(HOME, 0.1)


def test_a_second_robot_is_told_who_holds_the_arm(robot):
    with pytest.raises(RobotError, match="commanded by 'local'"):
        LocalRobot(robot._service, owner="other").connect()


def test_in_real_time_a_step_waits_for_its_tick():
    slept: list[float] = []
    service = RobotService(PointMassBackend(is_lockstep=False))
    service.start()
    try:
        robot = LocalRobot(service, sleep=slept.append)
        robot.connect()
        while robot.state().stamp_s == 0.0:
            time.sleep(0.001)
        robot.step(HOME, 0.05)
        robot.close()
    finally:
        service.close()
    assert slept == [0.05]
