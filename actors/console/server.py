"""The console as a web server."""

import socket
from pathlib import Path

import uvicorn

from actors.console.app import create_app
from actors.console.auth import LOCAL_HOSTS
from actors.console.browser_messages import MAX_TEXT_BYTES
from actors.console.console import Console
from actors.console.settings import ConsoleSettings
from serl_core.serving import Server, host_of, url_of


def create_server(
    settings: ConsoleSettings,
    token: str,
    listener: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    ready_file: Path | None = None,
) -> Server:
    """Return uvicorn with a console inside; `run([listener])` serves, `should_exit` ends it.

    Args:
        settings: what the console looks at.
        token: for the browsers.
        listener: a listening socket.
        hosts: names by which browsers call it, besides those of this machine.
        ready_file: gets the address once it answers.
    """
    app = create_app(Console(settings), token, (*LOCAL_HOSTS, host_of(listener), *hosts))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_TEXT_BYTES,
        timeout_graceful_shutdown=1,
        proxy_headers=False,
        server_header=False,
    )
    return Server(config, url_of(listener), ready_file)
