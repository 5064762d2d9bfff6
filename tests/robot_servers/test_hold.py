"""A client that has the arm hold where it is, at once: what the actor does when whoever steered is lost."""

import numpy as np
import pytest

from robot_servers.limits import Refusal
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.messages import EpochCommand, Mode, MoveCommand, SimAdvanceCommand, Vector7

START: Vector7 = (0.5, -0.03, 0.3, 1.0, 0.0, 0.0, 0.0)
STILL_M_S = 0.01


@pytest.fixture(scope="module")
def service():
    made = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    made.start()
    yield made
    made.close()


@pytest.fixture
def robot(service):
    arm = LocalRobot(service)
    arm.connect()
    arm.sim_reset(pose=START)
    yield arm
    arm.close()


def moving(robot):
    """Follow targets 15 mm ahead for half a second; return the state then."""
    state = robot.state()
    for _ in range(5):
        x, y, z, *turn = state.tcp_pose
        state = robot.step((x, y + 0.015, z, *turn), 0.1)
    return state


def rest(service, robot, told):
    """Return how long the arm still moves after `told`, in s, and how far it then is from there, in m."""
    moved_s, before = 0.0, told
    for k in range(1, 51):
        state = service.sim_advance(SimAdvanceCommand(epoch=robot._lease(), duration_s=0.02))
        if abs(state.tcp_pose[1] - before.tcp_pose[1]) > 0.02 * STILL_M_S:
            moved_s = 0.02 * k
        before = state
    return moved_s, abs(before.tcp_pose[1] - told.tcp_pose[1])


def test_an_arm_told_to_hold_is_at_rest_within_a_quarter_of_a_second(robot, service):
    """A target at the measured pose took up to 0.35 s: the set-point had to brake and to come back first."""
    told = moving(robot)
    assert np.linalg.norm(told.tcp_twist[:3]) > 0.05
    robot.hold()
    moved_s, away_m = rest(service, robot, told)
    assert moved_s < 0.25
    assert away_m < 0.004
    assert robot.state().mode is Mode.HOLD


def test_the_next_target_is_followed_again(robot):
    moving(robot)
    robot.hold()
    x, y, z, *turn = robot.state().tcp_pose
    assert robot.step((x, y, z + 0.01, *turn), 0.2).tcp_pose[2] > z + 0.005
    assert robot.state().mode is Mode.TRACKING


def test_a_move_of_the_server_ends(robot, service):
    x, y, z, *turn = START
    service.move(MoveCommand(epoch=robot._lease(), pose=(x, y, z + 0.1, *turn), speed_m_s=0.1, speed_rad_s=0.5))
    robot.hold()
    assert service.job(service._kernel.job.id).state == "cancelled"


def test_only_the_holder_of_the_lease_may_ask_for_it(robot, service):
    with pytest.raises(Refusal) as refused:
        service.hold(EpochCommand(epoch=robot._lease() + 1))
    assert refused.value.problem().status == 409


def test_a_stopped_arm_says_that_it_is_latched(robot):
    robot.stop()
    with pytest.raises(RobotFault, match="latched"):
        robot.hold()
    robot.resume()


def test_without_a_lease_it_is_the_callers_mistake(service):
    with pytest.raises(RobotError, match="connect"):
        LocalRobot(service).hold()
