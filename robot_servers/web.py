"""The robot server as a web server: its sockets, its limits, its signals, and the file that says that it answers."""

import logging
import signal
import socket
import ssl
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from robot_servers.app import StopPlace, create_app
from robot_servers.auth import LOCAL_HOSTS, MAX_BODY_BYTES
from robot_servers.limited_http import LimitedHttp, is_ours
from robot_servers.service import RobotService
from robot_servers.tokens import Tokens
from serl_core.serving import Server, host_of, url_of

if TYPE_CHECKING:
    from robot_servers.serl_routes import SerlArm

BACKLOG = 256


def create_server(
    service: RobotService,
    tokens: Tokens | str,
    listener: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    ready_file: Path | None = None,
    serl_arm: "SerlArm | None" = None,
    stop: StopPlace | None = None,
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Server:
    """Return the web server of a started service; `run([listener])` serves, `should_exit` ends it.

    HIL-SERL's routes are there when `serl_arm` is given.
    """
    names = names_of(listener, hosts)
    if serl_arm is None:
        app = create_app(service, tokens, names, stop=stop)
    else:
        from robot_servers.serl_routes import SERL_PATHS, add_serl_routes

        app = create_app(service, tokens, names, tokenless_paths=SERL_PATHS, stop=stop)
        add_serl_routes(app, serl_arm)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        loop="asyncio",
        http=LimitedHttp,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_BODY_BYTES,
        backlog=BACKLOG,
        server_header=False,
        timeout_graceful_shutdown=1,
        forwarded_allow_ips=["127.0.0.1", "::1"],  # nothing in the environment may say who counts as this machine
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
    logging.getLogger("uvicorn.error").addFilter(is_ours)
    return Server(config, url_of(listener, tls), ready_file, {signal.SIGUSR1: lambda: _stop(service)})


def names_of(listener: socket.socket, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return by which names clients may call this server."""
    return (*LOCAL_HOSTS, host_of(listener), *hosts)


def _stop(service: RobotService) -> None:
    Context().run(service.latch_stop, "local_stop")  # not on behalf of the request that the signal interrupts
