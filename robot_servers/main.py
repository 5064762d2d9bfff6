"""`serl robot-server`: one arm, served on this machine."""

import ipaddress
import logging
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from robot_servers.app import create_app
from robot_servers.arms import ArmOptions, Backend, ClockKind, GripperKind, make_backend
from robot_servers.auth import LOCAL_HOSTS, MAX_BODY_BYTES, load_or_create_token
from robot_servers.limits import load_limits
from robot_servers.service import RobotService
from serl_core.data.episode_file import write_atomically
from serl_core.errors import ConfigError, SerlError
from serl_core.robots.token import default_token_file
from serl_core.scheduling import go_before_others

if TYPE_CHECKING:
    from robot_servers.serl_routes import SerlArm

logger = logging.getLogger(__name__)

GIL_INTERVAL_S = 0.0005  # the control loop must get its turn within a tick


@dataclass(frozen=True, kw_only=True)
class RobotServerArgs(ArmOptions):
    """Serve one arm over HTTP and WebSocket."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 5000
    """Port to listen on; 0 takes a free one."""
    serl_routes: bool = False
    """Answer HIL-SERL's routes too, without token or lease from this machine; the safety kernel stays in force."""
    serl_clear_errors: bool = False
    """Let a client of those routes clear a latched fault."""
    insecure_lan: bool = False
    """Listen on an address that others can reach, although the connection is not encrypted."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients call this server, besides its address."""
    token_file: Path | None = None
    """The clients' token, made at the first start; default $SERL_TOKEN_FILE or ~/.config/serl/robot.token."""
    limits_file: Path | None = None
    """The safety limits of this robot, JSON; the defaults without it."""
    audit_log: Path | None = None
    """Lines about leases, stops, faults and parameters are appended there."""
    ready_file: Path | None = None
    """The server's URL is written there once it answers."""
    real_time_priority: bool = False
    """Go before every ordinary process (SCHED_FIFO)."""


def run_robot_server(args: RobotServerArgs) -> None:
    """Serve until SIGTERM or SIGINT. SIGUSR1 latches a stop.

    Raises:
        SerlError: the port is busy, or a file or an option is wrong.
    """
    if args.real_time_priority:
        go_before_others()  # before there is any other thread
    if not _is_loopback(args.host) and not args.insecure_lan:
        raise ConfigError(f"host {args.host!r} can be reached by others, unencrypted; allow that with --insecure-lan")
    _check_serl_options(args)
    limits = load_limits(args.limits_file)
    token = load_or_create_token(args.token_file or default_token_file())
    with bind(args.host, args.port) as listener:
        # A random start: an epoch from before a restart must never fit a new lease.
        first_epoch = secrets.randbelow(2**31)
        service = RobotService(make_backend(args, limits), limits, audit_log=args.audit_log, first_epoch=first_epoch)
        serl_arm = _serl_arm(service, args) if args.serl_routes else None
        serve(service, token, listener, hosts=args.allowed_hosts, ready_file=args.ready_file, serl_arm=serl_arm)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        SerlError: the port is taken, or the address is not this machine's.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SerlError(
            f"port {port} on {host} cannot be used: {error.strerror}; end what holds it, or choose another with --port"
        ) from None
    # Connections inherit it. asyncio leaves it out on a socket that it did not make: 40 ms per request.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def create_server(
    service: RobotService,
    token: str,
    listener: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    ready_file: Path | None = None,
    serl_arm: "SerlArm | None" = None,
) -> uvicorn.Server:
    """Return the web server of a started service; `run([listener])` serves, `should_exit` ends it.

    HIL-SERL's routes are there when `serl_arm` is given.
    """
    names = (*LOCAL_HOSTS, _address(listener)[0], *hosts)
    if serl_arm is None:
        app = create_app(service, token, names)
    else:
        from robot_servers.serl_routes import SERL_PATHS, add_serl_routes

        app = create_app(service, token, names, tokenless_paths=SERL_PATHS)
        add_serl_routes(app, serl_arm)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_BODY_BYTES,
        timeout_graceful_shutdown=1,
        forwarded_allow_ips=["127.0.0.1", "::1"],  # nothing in the environment may say who counts as this machine
    )
    return _Server(config, service, url_of(listener), ready_file)


def url_of(listener: socket.socket) -> str:
    """Return where clients find the server."""
    name, port = _address(listener)
    return f"http://{name}:{port}"


def serve(
    service: RobotService,
    token: str,
    listener: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    ready_file: Path | None = None,
    serl_arm: "SerlArm | None" = None,
) -> None:
    """Start `service` and serve it on `listener` until told to end; the arm then holds."""
    sys.setswitchinterval(GIL_INTERVAL_S)
    url = url_of(listener)
    service.start()
    try:
        logger.info("robot server at %s: %s", url, service.health())
        if not _is_loopback(listener.getsockname()[0]):
            logger.warning("the robot server at %s can be reached by others, unencrypted", url)
        server = create_server(service, token, listener, hosts=hosts, ready_file=ready_file, serl_arm=serl_arm)
        server.run([listener])
    finally:
        service.close()
        logger.info("robot server ended; the arm holds")


class _Server(uvicorn.Server):
    """uvicorn, except that a signal to end is obeyed and not raised again: the exit status is 0."""

    def __init__(self, config: uvicorn.Config, service: RobotService, url: str, ready_file: Path | None) -> None:
        super().__init__(config)
        self._service = service
        self._url = url
        self._ready_file = ready_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and only then say so."""
        await super().startup(sockets)
        if self._ready_file is not None:
            write_atomically(self._ready_file, (self._url + "\n").encode())

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        handlers = {signal.SIGTERM: self._end, signal.SIGINT: self._end, signal.SIGUSR1: self._stop_arm}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = True

    def _stop_arm(self, number: int, frame: FrameType | None) -> None:
        self._service.latch_stop("local_stop")


def _check_serl_options(args: RobotServerArgs) -> None:
    if args.serl_clear_errors and not args.serl_routes:
        raise ConfigError("--serl-clear-errors is about HIL-SERL's routes; give --serl-routes too, or leave it out")
    if args.serl_routes and args.backend is Backend.SIM and args.clock is ClockKind.LOCKSTEP:
        raise ConfigError("--serl-routes needs --clock real_time: HIL-SERL's clients move no simulated clock on")


def _serl_arm(service: RobotService, args: RobotServerArgs) -> "SerlArm":
    from robot_servers.serl_routes import SerlArm  # scipy takes a while to import

    is_robotiq = args.backend is not Backend.SIM and args.gripper is GripperKind.ROBOTIQ
    return SerlArm(service, may_clear_errors=args.serl_clear_errors, is_255_closed=is_robotiq)


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
