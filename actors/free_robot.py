"""Frees a stopped or faulty robot on a person's request, with the lease that the actor holds."""

from serl_core.errors import RobotError
from serl_core.operator.messages import OperatorNotice, Recover, ResumeRobot
from serl_core.robots.interface import Robot
from serl_core.robots.messages import Mode


def free_robot(robot: Robot, request: Recover | ResumeRobot) -> OperatorNotice:
    """Recover or resume the robot and return what came of it.

    A fault that the person has not seen is not cleared. Takes as long as the robot needs to answer.
    """
    try:
        state = robot.state()
        if isinstance(request, ResumeRobot):
            if state.mode is not Mode.STOPPED:
                return _warning(f"{request.operator}: the robot is not stopped, there is nothing to resume")
            robot.resume()
            return OperatorNotice(level="info", text=f"{request.operator} has resumed the robot")
        if state.mode is not Mode.FAULT:
            return _warning(f"{request.operator}: the robot has no fault, there is nothing to recover")
        if state.fault != request.cause:
            return _warning(f"not recovered: the fault is now {state.fault!r}, not {request.cause!r}; look again")
        robot.recover()
        return OperatorNotice(level="info", text=f"{request.operator} has recovered the robot from {request.cause!r}")
    except RobotError as error:
        return OperatorNotice(level="error", text=f"the robot is not freed: {error}"[:1000])


def _warning(text: str) -> OperatorNotice:
    return OperatorNotice(level="warning", text=text[:1000])
