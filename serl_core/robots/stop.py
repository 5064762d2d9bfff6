"""The way of a stop to a robot server: its own socket first, which answers while the rest is saturated."""

import http.client
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from serl_core.errors import ConfigError, RobotError
from serl_core.robots.messages import Health, Stopped, decode
from serl_core.robots.tls import client_context

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 0.5  # of its own socket, which answers in milliseconds or not at all


def send_stop(url: str, token: str, known: Health | None, fall_back: Callable[[], object]) -> None:
    """Latch a software stop.

    Args:
        url: of the robot server.
        token: of any role.
        known: what the server said of itself. Without it, as for a client that has just begun, the stop's usual port
            is tried, and then the common one in any case: another server may have answered.
        fall_back: sends the stop over the common port; raises RobotError.

    Raises:
        RobotError: neither way got through.
    """
    stopped = _ask(url, token, known)
    if stopped is not None and known is not None and stopped.server == known.server:
        return  # this very server: behind a tunnel another may answer at that port
    try:
        fall_back()
    except RobotError as error:
        if stopped is None or known is not None:
            raise
        logger.warning("stopped over the stop's own port; the common one says: %s", error)


def _ask(url: str, token: str, known: Health | None) -> Stopped | None:
    parts = urlsplit(url)
    is_encrypted = parts.scheme == "https"
    try:
        port = (parts.port or (443 if is_encrypted else 80)) + 1 if known is None else known.stop_port
    except ValueError:  # no number: the common way says so
        return None
    if port is None:
        return None
    try:
        connection = _connection(parts.hostname or "", port, is_encrypted)
    except ConfigError as error:
        logger.error("%s", error)
        return None
    try:
        connection.request("POST", "/v1/stop", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return decode(response.read(), Stopped) if response.status == 200 else None
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()


def _connection(host: str, port: int, is_encrypted: bool) -> http.client.HTTPConnection:
    if is_encrypted:
        return http.client.HTTPSConnection(host, port, timeout=STOP_TIMEOUT_S, context=client_context())
    return http.client.HTTPConnection(host, port, timeout=STOP_TIMEOUT_S)
