"""Errors a user can mend: each message names the thing, the value, what is allowed, and the remedy.

The command line prints the message of a `SerlError` on one line and exits with status 2.
"""


class SerlError(Exception):
    """The base of every error this project raises for its user to read."""


class ConfigError(SerlError):
    """A configuration value is outside what is allowed."""


class DataError(SerlError):
    """A file of episodes, transitions or checkpoints is missing, corrupt or of another version."""


class TransportError(SerlError):
    """The learner (or the actor) is not there, or refuses what was sent."""


class RobotError(SerlError):
    """The robot server is not there, or refuses a request.

    Attributes:
        status: HTTP status of the refusal; 0 when the server was not reached.
        field: the offending field, such as ``pose[3]``, where there is one.
        cause: of a move that failed, in a word, such as ``joint_limit``; empty if none is known.
    """

    def __init__(self, message: str, *, status: int = 0, field: str | None = None, cause: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.cause = cause


class RobotFault(RobotError):
    """The robot is stopped, in a reflex or otherwise latched: a person must look, then recover it."""


class RobotAway(RobotError):
    """The robot server, or the arm behind it, gives no sign of life now, or has forgotten us: it may come back."""


class CameraFault(SerlError):
    """A camera gives no picture, or only old ones: the arm holds until it is back."""


class ResetError(SerlError):
    """The arm did not arrive at its start pose after every allowed try."""


class LearningError(SerlError):
    """Training went wrong in its numbers: nothing of it is published or saved."""
