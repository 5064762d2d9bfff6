"""From a refusal on the wire to the error its user reads."""

from serl_core.errors import RobotAway, RobotError, RobotFault
from serl_core.robots.messages import Problem

LATCHED = 423  # stopped, in a fault, or on a move of the server
UNAVAILABLE = 503  # the arm's readings are old, or its driver does not answer
LEASE_LOST = (409, "epoch")  # as after a restart of the server
LATE = (409, "sent_s")  # longer on its way than others: the program, the line or the server was held up


def error_of(problem: Problem) -> RobotError:
    """Return the error that stands for `problem`: a RobotFault when the arm takes no targets."""
    is_away = problem.status == UNAVAILABLE or (problem.status, problem.field) == LEASE_LOST
    kind = RobotFault if problem.status == LATCHED else RobotAway if is_away else RobotError
    return kind(problem.detail, status=problem.status, field=problem.field)


def is_late(refusal: RobotError) -> bool:
    """Return whether a command was refused because it came late: look at the state, and choose another."""
    return (refusal.status, refusal.field) == LATE
