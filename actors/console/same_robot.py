"""Whether an actor commands the very robot that the console stops: a person must not steer one arm and stop another."""

from urllib.parse import urlsplit

from serl_core.operator.messages import OperatorAddress
from serl_core.robots.messages import Health

LOOPBACK = "127.0.0.1"


def is_same_robot(robot: str | None, health: Health | None, actor: OperatorAddress) -> bool:
    """Return whether both speak to one robot server: by its address, or by what it calls itself.

    Console and actor run on one machine, so one address is one server, also after it was started anew. An actor that
    names no robot server has none: its arm is simulated in its own process.

    Args:
        robot: URL of the console's robot server; None: it has none.
        health: what that server said of itself last; None before.
        actor: its file.
    """
    if actor.robot is None:
        return True
    if robot is None:
        return False
    is_same_start = health is not None and health.server is not None and health.server == actor.server
    return is_same_start or _place(robot) == _place(actor.robot)


def _place(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    host = LOOPBACK if parts.hostname == "localhost" else parts.hostname or ""
    return parts.scheme, host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
