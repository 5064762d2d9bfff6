"""What a socket that other machines can reach must have: encryption, or the word of whoever starts it.

Sockets listen on this machine alone unless told otherwise (SAFETY.md 2.2, rule 1).
"""

import ipaddress
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

REMINDER_S = 60.0
LAST_PORT = 65535


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(option: str, port: int) -> None:
    """Refuse what is no port; 0 stands for a free one.

    Raises:
        ConfigError: it is none.
    """
    if not 0 <= port <= LAST_PORT:
        raise ConfigError(f"{option} must be 0 (a free one) to {LAST_PORT}, got {port}")


def check_exposure(host: str, *, is_encrypted: bool, is_allowed: bool) -> None:
    """Refuse to listen where others can read along.

    Raises:
        ConfigError: nobody has allowed it.
    """
    if not (is_loopback(host) or is_encrypted or is_allowed):
        raise ConfigError(
            f"host {host!r} can be reached by others, unencrypted; encrypt it (--tls-certificate and "
            "--tls-key of a robot server), stay on 127.0.0.1 behind an SSH tunnel, or allow it with --insecure-lan"
        )


@contextmanager
def reminded(what: str, host: str, *, is_encrypted: bool, period_s: float = REMINDER_S) -> Iterator[None]:
    """Say at once and each minute that others can read along, if they can."""
    if is_encrypted or is_loopback(host):
        yield
        return
    has_ended = threading.Event()

    def remind() -> None:
        while True:
            logger.warning("INSECURE: %s on %s can be reached by others, unencrypted, its token with it", what, host)
            if has_ended.wait(period_s):
                return

    thread = threading.Thread(target=remind, name="insecure-reminder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
