"""What every driver does with the gripper at its flange."""

import pytest

from robot_servers.arm_parts.flange import Flange
from robot_servers.limits import Refusal


class Gripper:
    """Remembers; at fault when told."""

    def __init__(self):
        self.calls = []
        self.cause = None

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def move(self, *command):
        self.calls.append(command)

    def position(self):
        return 0.25

    def fault(self):
        return self.cause

    def recover(self):
        self.calls.append("recover")


def test_it_passes_on_to_the_gripper():
    gripper = Gripper()
    flange = Flange(gripper)
    flange.start()
    flange.move(0.5, 0.05, 20.0)
    flange.recover()
    flange.stop()
    assert gripper.calls == ["start", (0.5, 0.05, 20.0), "recover", "stop"]
    assert (flange.position(), flange.fault()) == (0.25, None)


def test_a_gripper_at_fault_is_sent_nothing_and_the_refusal_says_how_to_go_on():
    """It said to start the robot server again: there was no way to clear a gripper's fault by itself."""
    gripper = Gripper()
    gripper.cause = "gripper_lost"
    with pytest.raises(Refusal, match=r"no longer obeys \(gripper_lost\); .*/v1/recover") as refused:
        Flange(gripper).move(0.5, 0.05, 20.0)
    assert (refused.value.status, refused.value.kind, gripper.calls) == (503, "gripper_lost", [])


def test_without_a_gripper_it_is_closed_and_sound_and_refuses_to_move():
    flange = Flange(None)
    flange.start()
    flange.recover()
    flange.stop()
    assert (flange.position(), flange.fault()) == (0.0, None)
    with pytest.raises(Refusal, match="without a gripper"):
        flange.move(0.5, 0.05, 20.0)
