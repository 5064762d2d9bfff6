"""A gripper's fault beside the arm's: what the service shows of it, and when it may be cleared."""

import pytest

from robot_servers.limits import Refusal
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.testing import HOME, PointMassBackend
from serl_core.robots.messages import LeaseRequest, Mode, RecoverCommand, StreamCommand

LOST = "gripper_lost"
CLEARED = ("recover_gripper",)


@pytest.fixture
def arm():
    service = RobotService(PointMassBackend())
    service.start()
    yield service, service.backend, service.lease(LeaseRequest(action="acquire", owner="test")).epoch
    service.close()


def refusal(call, *arguments):
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    return refused.value


def test_it_is_shown_and_the_arm_goes_on(arm):
    service, backend, epoch = arm
    assert service.state().gripper_fault is None
    backend.gripper_cause = LOST
    service.stream_step(StreamCommand(epoch=epoch, sequence=1, pose=HOME, reply_after_s=0.1))
    state = service.state()
    assert (state.gripper_fault, state.fault, state.mode) == (LOST, None, Mode.TRACKING)


def test_only_its_own_name_clears_it(arm):
    service, backend, epoch = arm
    backend.gripper_cause = LOST
    wrong = refusal(service.recover, RecoverCommand(epoch=epoch, cause="gripper_fault"))
    assert (wrong.status, wrong.limit) == (422, LOST)
    assert CLEARED not in backend.calls
    assert service.recover(RecoverCommand(epoch=epoch, cause=LOST)).gripper_fault is None
    assert backend.calls == [CLEARED]  # and nothing of the arm


def test_without_the_lease_it_stays(arm):
    service, backend, epoch = arm
    backend.gripper_cause = LOST
    assert refusal(service.recover, RecoverCommand(epoch=epoch + 1, cause=LOST)).status == 409
    assert backend.calls == []


def test_its_fingers_do_not_move_while_the_arm_is_stopped(arm):
    service, backend, epoch = arm
    backend.gripper_cause = LOST
    service.stop()
    assert refusal(service.recover, RecoverCommand(epoch=epoch, cause=LOST)).status == 423
    assert backend.calls == []


def test_the_arms_fault_comes_first(arm):
    service, backend, epoch = arm
    backend.gripper_cause = LOST
    backend.fail("reflex")
    backend.advance(0.001)
    assert refusal(service.recover, RecoverCommand(epoch=epoch, cause=LOST)).limit == "reflex"
    state = service.recover(RecoverCommand(epoch=epoch, cause="reflex"))
    assert (state.fault, state.gripper_fault) == (None, LOST)
    assert CLEARED not in backend.calls


def test_a_step_whose_gripper_is_refused_changes_nothing(arm):
    """The target was followed, and the watchdog fed, although the client was told that nothing had changed."""
    service, backend, epoch = arm
    backend.gripper_cause = LOST
    x, y, z, *turn = HOME
    command = StreamCommand(epoch=epoch, sequence=1, pose=(x + 0.02, y, z, *turn), reply_after_s=0.1, gripper=0.0)
    assert refusal(service.stream_step, command).status == 503
    assert service.state().mode is Mode.HOLD
    backend.gripper_cause = None
    service.stream_step(command)  # nor is its sequence number used up


def test_a_step_whose_target_is_refused_moves_no_finger(arm):
    service, backend, epoch = arm
    x, y, z, *turn = HOME
    command = StreamCommand(epoch=epoch, sequence=1, pose=(x + 0.5, y, z, *turn), reply_after_s=0.1, gripper=0.0)
    assert refusal(service.stream_step, command).status == 422
    assert backend.calls == []


def test_a_robot_in_this_process_clears_it_once_the_arm_has_no_fault():
    service = RobotService(PointMassBackend())
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    service.backend.gripper_cause = LOST
    service.stop()
    robot.recover()
    assert service.backend.calls == []
    robot.resume()
    robot.recover()
    assert service.backend.calls == [CLEARED]
    robot.close()
    service.close()
