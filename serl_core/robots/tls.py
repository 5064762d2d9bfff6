"""How a client trusts an encrypted robot server: by the certificate in $SERL_CA_FILE, or those of the system."""

import os
import ssl

from serl_core.errors import ConfigError

CA_VARIABLE = "SERL_CA_FILE"


def trust(url: str) -> ssl.SSLContext | bool:
    """Return what httpx needs to check the server at `url`; making it takes a while where it is not needed."""
    return client_context() if is_encrypted(url) else False


def is_encrypted(url: str) -> bool:
    """Return whether a URL asks for TLS."""
    return url.lower().startswith(("https:", "wss:"))


def client_context() -> ssl.SSLContext:
    """Return how to check an https server.

    Raises:
        ConfigError: $SERL_CA_FILE holds no certificates.
    """
    ca_file = os.environ.get(CA_VARIABLE) or None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(f"${CA_VARIABLE} {ca_file}: {error.strerror or error}; give a PEM certificate") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
