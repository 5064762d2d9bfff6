"""Encryption of the HTTP interface: TLS 1.3 with a certificate and a key of the server."""

import asyncio.constants
import ssl
from pathlib import Path

from serl_core.errors import ConfigError

HANDSHAKE_TIMEOUT_S = 2.0


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return how to encrypt.

    Raises:
        ConfigError: a file cannot be read, or the two do not belong together.
    """
    # asyncio gives uvicorn's users no other way to shorten its minute: idle connections would pile up meanwhile.
    asyncio.constants.SSL_HANDSHAKE_TIMEOUT = HANDSHAKE_TIMEOUT_S
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # also ssl.SSLError
        reason = error.strerror or error
        raise ConfigError(f"--tls-certificate {certificate} with --tls-key {key}: {reason}; give PEM files") from None
    return context
