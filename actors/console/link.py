"""The address that a person opens. Imports nothing: what starts the console needs no more than this."""

TOKEN_FILE = "console.token"  # in the run's folder


def link(url: str, token: str) -> str:
    """Return the console's address with its token: what follows the # never leaves the browser."""
    return f"{url}/#token={token}"
