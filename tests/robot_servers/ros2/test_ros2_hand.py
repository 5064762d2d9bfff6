import fake_ros
import pytest

from robot_servers.ros2 import names
from robot_servers.ros2.hand import RosHand


@pytest.fixture
def io():
    io = fake_ros.FakeIo()
    io.start()
    return io


@pytest.fixture
def hand(io):
    hand = RosHand(io)
    hand.start()
    heard(io, 0.04)
    return hand


def heard(io, width_m):
    io.on_message[names.HAND_JOINTS](fake_ros.JointState(position=[width_m / 2.0, width_m / 2.0]))


def test_opening_moves_and_closing_grasps_whatever_is_there(io, hand):
    hand.move(1.0, 0.05, 20.0)
    (move,) = io.goals
    assert (move.action, move.fields) == (names.HAND_MOVE, fake_ros.Move.Goal(width=0.08, speed=0.05))
    move.on_end(object())
    hand.move(0.0, 0.03, 40.0)
    grasp = io.goals[1]
    wide = fake_ros.Epsilon(inner=0.08, outer=0.08)
    assert grasp.action == names.HAND_GRASP
    assert grasp.fields == fake_ros.Grasp.Goal(width=0.0, epsilon=wide, speed=0.03, force=40.0)


def test_the_newest_command_ends_the_one_under_way_and_is_the_next(io, hand):
    hand.move(1.0, 0.05, 20.0)
    hand.move(0.9, 0.05, 20.0)
    hand.move(0.8, 0.05, 20.0)
    assert len(io.goals) == 1
    assert len(io.requests(names.HAND_STOP)) == 2
    io.goals[0].on_end(None)
    assert [goal.fields.width for goal in io.goals] == [pytest.approx(0.08), pytest.approx(0.064)]
    io.goals[1].on_end(object())
    assert len(io.goals) == 2


def test_position_is_the_width_over_the_stroke(io, hand):
    assert hand.position() == pytest.approx(0.5)
    heard(io, 0.081)
    assert hand.position() == 1.0


def test_a_hand_whose_node_was_never_heard_of_is_a_fault(io):
    hand = RosHand(io)
    hand.start()
    assert hand.fault() == "gripper_lost"
    heard(io, 0.04)
    assert hand.fault() is None


def test_stop_forgets_what_is_waiting(io, hand):
    hand.move(1.0, 0.05, 20.0)
    hand.move(0.0, 0.05, 20.0)
    hand.stop()
    io.goals[0].on_end(None)
    assert len(io.goals) == 1
