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


def why_not_there(url: str, error: Exception) -> str:
    """Return the sentence for a robot server that could not be reached, with the remedy."""
    if not url.lower().startswith(("http://", "https://")):
        return f"{url!r} is no address of a robot server; give one like http://127.0.0.1:5000"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"the certificate of {url} is not trusted ({error}); set ${CA_VARIABLE} to the server's PEM file"
    if "WRONG_VERSION_NUMBER" in str(error):
        return f"what answers at {url} does not encrypt ({error}); is it http://?"
    return f"no robot server at {url} ({error}); start one with `serl robot-server`"


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
