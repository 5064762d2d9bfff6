"""From a refusal on the wire to the error its user reads."""

from serl_core.errors import RobotError, RobotFault
from serl_core.robots.messages import Problem

LATCHED = 423  # stopped, in a fault, or on a move of the server


def error_of(problem: Problem) -> RobotError:
    """Return the error that stands for `problem`: a RobotFault when the arm takes no targets."""
    kind = RobotFault if problem.status == LATCHED else RobotError
    return kind(problem.detail, status=problem.status, field=problem.field)
