"""A gripper that fails while its arm goes on, seen by a client of the service: a real driver on pymodbus's server."""

import pytest

from robot_servers.arm_parts.flange import Flange
from robot_servers.grippers.robotiq import RobotiqGripper
from robot_servers.limits import Refusal
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend
from serl_core.robots.messages import GripperCommand, LeaseRequest, Mode, PoseCommand, RecoverCommand
from tests.robot_servers.grippers.robotiq_server import Robotiq2F, serving
from tests.robot_servers.grippers.test_robotiq import PERIOD_S, wait_until


class Arm(PointMassBackend):
    """A point mass with a real gripper's driver at its flange."""

    def __init__(self, gripper):
        super().__init__()
        self._flange = Flange(gripper)

    def start(self, servo):
        self._flange.start()
        super().start(servo)

    def stop(self):
        self._flange.stop()
        super().stop()

    def set_gripper(self, position, speed_m_s, force_n):
        self._flange.move(position, speed_m_s, force_n)

    def gripper_fault(self):
        return self._flange.fault()

    def recover_gripper(self):
        self._flange.recover()


@pytest.fixture
def device():
    return Robotiq2F()


@pytest.fixture
def service(device):
    with serving(device) as port:
        service = RobotService(Arm(RobotiqGripper(f"127.0.0.1:{port}", timeout_s=10.0, period_s=PERIOD_S)))
        service.start()
        yield service
        service.close()


def test_a_gripper_that_lost_its_power_is_shown_while_the_arm_goes_on_and_cleared_by_name(device, service):
    """There was no way to clear it but to start the server again: only the recovery of an arm's fault did it."""
    epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
    device.is_activated = device._was_on = False
    wait_until(lambda: service.state().gripper_fault == "gripper_lost")
    assert service.pose(PoseCommand(epoch=epoch, pose=HOME)).mode is Mode.TRACKING
    with pytest.raises(Refusal, match=r"gripper_lost.*/v1/recover"):
        service.gripper(GripperCommand(epoch=epoch, position=0.0))
    assert device.writes == []

    state = service.recover(RecoverCommand(epoch=epoch, cause="gripper_lost"))
    assert (state.mode, state.fault) == (Mode.TRACKING, None)
    wait_until(lambda: service.state().gripper_fault is None)
    assert device.is_activated
    service.gripper(GripperCommand(epoch=epoch, position=0.0))
    wait_until(lambda: device.position == 255)


def test_the_recovery_of_the_arm_leaves_the_gripper_at_fault(device, service):
    """It activated the gripper, which moves its fingers, although nobody had asked for that."""
    epoch = service.lease(LeaseRequest(action="acquire", owner="test")).epoch
    device.is_activated = device._was_on = False
    wait_until(lambda: service.state().gripper_fault == "gripper_lost")
    service.backend.fail("reflex")
    service.backend.advance(0.001)
    assert service.recover(RecoverCommand(epoch=epoch, cause="reflex")).mode is Mode.HOLD
    seen = device.readings
    assert service.state().gripper_fault == "gripper_lost"
    assert (device.writes, device.readings) == ([], seen)
