"""Franka's hand beside its arm, on franky-sim: each fault is cleared by its own name."""

from robot_servers.grippers.franka_hand import FrankaHand
from serl_core.robots.messages import GripperCommand, Mode, RecoverCommand
from tests.robot_servers.franky.simulated import Served, SimulatedArms, until


def test_a_hand_that_was_lost_with_its_arm_comes_back_by_its_own_name_alone():
    """A recovery of the arm connected the hand again by itself, and there was no other way to do so."""
    arms = SimulatedArms()
    address = arms.address
    served = Served(address, gripper=FrankaHand(address))
    service = served.service
    try:
        arms.kill()
        until(lambda: service.state().fault == "connection_lost", "the arm's fault")
        until(lambda: service.state().gripper_fault == "gripper_lost", "the hand's fault")
        arms = SimulatedArms(addresses=[address])
        served.hold_lease()
        service.recover(RecoverCommand(epoch=served.epoch, cause="connection_lost"))
        assert service.state().gripper_fault == "gripper_lost"
        service.recover(RecoverCommand(epoch=served.epoch, cause="gripper_lost"))
        served.until(lambda: service.state().gripper_fault is None, "the hand")
        service.gripper(GripperCommand(epoch=served.epoch, position=1.0))
        served.until(lambda: service.state().gripper > 0.95, "the fingers")
        assert service.state().mode is Mode.HOLD
    finally:
        arms.kill()
        service.close()
