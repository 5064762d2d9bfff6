"""The server's safety rules on the simulated Franka: joint limits, joint speed, the soft wall."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.limits import SafetyLimits
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.model import LINKS
from serl_core.errors import RobotError, RobotFault
from serl_core.robots.messages import JOINT_LIMIT, Mode, RobotState, SimAdvanceCommand, Vector7

DOWN = (1.0, 0.0, 0.0, 0.0)
BOX = SafetyLimits(box_low_m=(0.3, -0.2, 0.05), box_high_m=(0.7, 0.2, 0.5))
HIGH_RAD = LINKS[6].range_rad[1]


class Server:
    """A robot behind the whole server, in lockstep."""

    def __init__(self, limits: SafetyLimits | None = None) -> None:
        self.service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True), limits)
        self.service.start()
        self.robot = LocalRobot(self.service)
        self.robot.connect()

    @property
    def state(self) -> RobotState:
        return self.robot.state()

    def after(self, duration_s: float) -> RobotState:
        command = SimAdvanceCommand(epoch=self.state.lease_epoch, duration_s=duration_s)
        return self.service.sim_advance(command)

    def turn(self, angle: float) -> RobotState:
        """Ask for a turn about the vertical, from the measured pose."""
        x, y, z, *quaternion = self.state.tcp_pose
        turned = Rotation.from_rotvec((0.0, 0.0, angle)) * Rotation.from_quat(quaternion)
        return self.robot.step((x, y, z, *turned.as_quat().tolist()), 0.1)

    def turn_on(self, angle: float) -> None:
        """Ask for ever more turns."""
        for _ in range(40):
            self.turn(angle)


def turned_by(angle: float) -> Vector7:
    """A pose in free air. At -2.05 rad joint 7 is at its margin."""
    turned = Rotation.from_rotvec((0.0, 0.0, angle)) * Rotation.from_quat(DOWN)
    return (0.5, 0.0, 0.3, *turned.as_quat().tolist())


def moved_m(before: RobotState, after: RobotState) -> float:
    return math.dist(before.tcp_pose[:3], after.tcp_pose[:3])


def test_steps_towards_a_joint_limit_are_refused_before_it_and_the_arm_stays():
    server = Server()
    server.robot.sim_reset(pose=turned_by(-1.8))
    with pytest.raises(RobotError, match="joint 7 would turn") as refused:
        server.turn_on(-0.06)
    assert (refused.value.status, refused.value.field) == (422, "pose")
    assert not isinstance(refused.value, RobotFault)
    before = server.state
    assert 0.05 < HIGH_RAD - before.q[6] < 0.13
    after = server.after(1.0)
    assert after.mode is Mode.HOLD
    assert moved_m(before, after) < 2e-3
    assert HIGH_RAD - after.q[6] > 0.05
    assert server.turn(0.06).mode is Mode.TRACKING
    assert server.turn(0.06).q[6] < after.q[6] - 0.02


def test_a_move_into_a_joint_limit_ends_at_the_margin_and_another_leads_out():
    server = Server()
    server.robot.sim_reset(pose=turned_by(-1.8))
    with pytest.raises(RobotError, match=r"the move failed: joint 7 at .* would be driven further in") as failure:
        server.robot.move(turned_by(-2.15))
    assert failure.value.cause == JOINT_LIMIT
    assert HIGH_RAD - server.after(0.5).q[6] > 0.045
    assert server.robot.move(turned_by(-1.5)).mode is Mode.HOLD


def test_an_arm_placed_inside_the_margin_holds_and_may_be_moved_out():
    """The simulator pushes it off the limit, ahead of its set-point."""
    server = Server()
    server.robot.sim_reset(pose=turned_by(-2.1))
    assert HIGH_RAD - server.state.q[6] < 0.025
    assert server.after(0.5).mode is Mode.HOLD
    server.robot.move(turned_by(-1.5))
    np.testing.assert_allclose(server.state.tcp_pose[:3], turned_by(0.0)[:3], atol=1e-3)


def test_a_joint_too_fast_is_latched_until_it_is_recovered_by_request():
    server = Server()
    server.robot.sim_reset(pose=(0.45, -0.1, 0.3, *DOWN))
    server.robot.step((0.46, -0.1, 0.3, *DOWN), 0.1)
    server.service.backend._world.dq[4] = 2.6  # struck
    state = server.after(0.001)
    assert (state.mode, state.fault) == (Mode.FAULT, "joint_speed")
    before = server.after(1.0)
    assert before.fault == "joint_speed"
    with pytest.raises(RobotFault):
        server.robot.step((0.46, -0.1, 0.3, *DOWN), 0.1)
    server.robot.recover()
    after = server.after(1.0)
    assert after.mode is Mode.HOLD
    assert moved_m(before, after) < 1e-3


@pytest.mark.parametrize(("axis", "edge", "inwards"), [(0, 0.3, 1.0), (1, 0.2, -1.0), (2, 0.5, -1.0)])
def test_at_the_edge_the_soft_wall_pushes_back_with_200_newtons_per_metre(axis, edge, inwards):
    """A spring of 2000 N/m at the edge gives way by a tenth of what is left of the wall: 4.5 mm, 9.1 N."""
    server = Server(BOX)
    server.robot.sim_reset(pose=(0.5, 0.0, 0.3, *DOWN))
    goal = np.array([0.5, 0.0, 0.3])
    goal[axis] = edge
    server.robot.move((*goal.tolist(), *DOWN))
    state = server.after(1.0)
    short = inwards * (np.array(state.tcp_pose[:3]) - goal)
    assert short[axis] == pytest.approx(0.05 * 200.0 / 2200.0, rel=0.1)
    np.testing.assert_allclose(np.delete(short, axis), 0.0, atol=5e-4)


def test_without_a_soft_wall_the_arm_goes_to_the_edge():
    server = Server(SafetyLimits(box_low_m=BOX.box_low_m, box_high_m=BOX.box_high_m, soft_wall_n_m=0.0))
    server.robot.sim_reset(pose=(0.4, 0.0, 0.3, *DOWN))
    server.robot.move((0.3, 0.0, 0.3, *DOWN))
    assert server.after(1.0).tcp_pose[0] == pytest.approx(0.3, abs=5e-4)


def test_a_stop_and_its_end_do_not_move_an_arm_at_the_edge():
    """The wall's push went with the stop, and the spring took the arm 5 mm further out."""
    server = Server(BOX)
    server.robot.sim_reset(pose=(0.4, 0.0, 0.3, *DOWN))
    before = server.robot.move((0.3, 0.0, 0.3, *DOWN))
    server.robot.stop()
    stopped = server.after(1.0)
    server.robot.resume()
    after = server.after(1.0)
    assert moved_m(before, stopped) < 1e-3
    assert moved_m(stopped, after) < 1e-3
