import io
import os
import pty
import select
import termios
import threading

import pytest

from serl_core.cli.jog import AXES, KEYS, Jog, StepSize, check_step, require_free
from serl_core.cli.keyboard import single_keys
from serl_core.cli.robot_pose import Frame
from serl_core.errors import ConfigError, RobotError, RobotFault
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot

DOWN = (1.0, 0.0, 0.0, 0.0)
START = (0.5, 0.0, 0.2, *DOWN)
SIZE = StepSize(0.005, 0.035)


@pytest.fixture
def robot() -> FakeRobot:
    fake = FakeRobot(START, START)
    fake.connect()
    return fake


def jogged(robot: FakeRobot, keys: str, frame: Frame = Frame.BASE) -> list[str]:
    said: list[str] = []
    Jog(robot, frame, said.append).run(keys, SIZE)
    return said


@pytest.mark.parametrize(("key", "place"), AXES.items())
def test_a_key_moves_or_turns_the_tool_one_way_and_no_other(robot, key, place):
    axis, sign = place
    jogged(robot, key)
    moved = [now - before for now, before in zip(robot.state().tcp_pose, START, strict=True)]
    if axis < 3:
        assert moved[axis] == pytest.approx(sign * SIZE.translation_m)
        moved[axis] = 0.0
        assert moved == pytest.approx([0.0] * 7, abs=1e-9)
    else:
        assert moved[:3] == pytest.approx([0.0] * 3, abs=1e-9)
        assert max(map(abs, moved[3:])) > 0.01


def test_every_key_that_moves_is_told():
    assert [key for key in AXES if f" {key} " not in KEYS] == []


def test_steps_back_and_forth_end_where_they_began(robot):
    """Each begins at the last one's goal: what friction leaves over does not add up."""
    jogged(robot, "wadsrf" * 5)
    assert robot.state().tcp_pose == pytest.approx(START, abs=1e-9)


def test_a_step_after_an_obstacle_begins_at_the_arm_and_not_behind_the_obstacle():
    """Else each key press against a table would wind the goal up."""
    blocked = FakeRobot(START, START, moves_short=3)  # ends 2 cm above each goal
    blocked.connect()
    jogged(blocked, "ff")
    assert blocked.state().tcp_pose[2] == pytest.approx(START[2] + 2 * (0.02 - 0.005))


def test_plus_and_minus_change_the_steps_within_their_bounds(robot):
    said = jogged(robot, "+" * 10 + "w")
    assert said[0] == "steps of 10 mm and 4 degrees"
    assert robot.state().tcp_pose[0] == pytest.approx(START[0] + 0.1)
    jogged(robot, "-" * 20 + "s")
    assert robot.state().tcp_pose[0] == pytest.approx(START[0] + 0.1 - 1e-4)


def test_q_ends_and_what_follows_is_not_obeyed(robot):
    jogged(robot, "wqw")
    assert robot.state().tcp_pose[0] == pytest.approx(START[0] + 0.005)


def test_the_space_bar_stops_the_arm_and_ends(robot):
    said = jogged(robot, "w ww")
    assert robot.state().mode is Mode.STOPPED
    assert "serl robot resume" in said[-1]
    assert robot.calls.count("move") == 1


def test_p_prints_the_pose_and_g_moves_the_gripper(robot):
    said = jogged(robot, "pg")
    assert said[0].startswith("pose = (0.5, ")
    assert robot.state().gripper == 0.0
    jogged(robot, "g")
    assert robot.state().gripper == 1.0


def test_an_unknown_key_does_nothing(robot):
    assert jogged(robot, "zx\x1b[A") == []
    assert robot.calls == ["connect"]


def test_a_fault_in_the_middle_ends_the_jog(robot):
    robot.fail(Mode.FAULT, "reflex")
    with pytest.raises(RobotFault):
        jogged(robot, "w")


def test_a_refused_step_is_said_and_the_jog_goes_on(robot):
    class Refusing(FakeRobot):
        def move(self, pose, speed_m_s=0.15, speed_rad_s=0.6):
            if pose[2] < 0.2:
                raise RobotError("z is outside the workspace", status=422)
            return super().move(pose, speed_m_s, speed_rad_s)

    refusing = Refusing(START, START)
    refusing.connect()
    said = jogged(refusing, "fw")
    assert said[0] == "not there: z is outside the workspace"
    assert refusing.state().tcp_pose[0] == pytest.approx(0.505)


@pytest.mark.parametrize(
    ("mode", "cause", "command"), [(Mode.FAULT, "reflex", "recover"), (Mode.STOPPED, "stop", "resume")]
)
def test_a_latched_arm_is_refused_with_the_command_that_ends_it(robot, mode, cause, command):
    require_free(robot.state())
    robot.fail(mode, cause)
    with pytest.raises(RobotFault, match=rf"{cause}.*serl robot {command}"):
        require_free(robot.state())


@pytest.mark.parametrize(
    "step", [(0.2, 0.0, 0.0, 0.0, 0.0, 0.0), (float("nan"), 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.6, 0.0)]
)
def test_a_step_that_is_not_small_is_refused(step):
    check_step((0.1, 0.0, 0.0, 0.0, 0.0, 0.5))
    with pytest.raises(ConfigError, match="--by"):
        check_step(step)


@pytest.mark.parametrize(("size", "option"), [((0.0, 0.035), "--step-m"), ((0.005, 1.0), "--step-rad")])
def test_a_step_size_that_is_not_small_is_refused(size, option):
    with pytest.raises(ConfigError, match=option):
        StepSize(*size).check()


def test_keys_from_a_pipe_are_read_to_its_end():
    with single_keys(io.StringIO("wa\nd\n")) as keys:
        assert list(keys) == ["w", "a", "d"]


def test_a_terminals_keys_come_without_enter_and_those_typed_during_a_step_are_dropped():
    """A held key repeats: the arm must not go on for each repeat after it was let go."""
    ours, theirs = pty.openpty()
    is_read = threading.Event()

    def type_q() -> None:
        while not is_read.wait(0.05):  # again and again: the first may come while the others are dropped
            os.write(ours, b"q")

    typist = threading.Thread(target=type_q, daemon=True)
    with os.fdopen(theirs) as terminal, single_keys(terminal) as keys:
        os.write(ours, b"w")
        assert next(keys) == "w"
        os.write(ours, b"wwww")  # while the arm moves
        assert select.select([terminal], [], [], 30.0)[0]
        typist.start()
        assert next(keys) == "q"
        is_read.set()
        typist.join()
    os.close(ours)


def test_the_terminal_is_as_before_afterwards():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        before = termios.tcgetattr(terminal)
        with single_keys(terminal):
            assert termios.tcgetattr(terminal) != before
        assert termios.tcgetattr(terminal) == before
    os.close(ours)
