"""`serl robot-server`: one arm, served on this machine."""

import dataclasses
import logging
import resource
import secrets
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robot_servers.app import StopPlace, health_of
from robot_servers.arms import ArmOptions, Backend, ClockKind, GripperKind, make_backend
from robot_servers.limits import load_limits
from robot_servers.service import RobotService
from robot_servers.stop_memory import StopMemory
from robot_servers.stop_socket import StopSocket
from robot_servers.supervisor import supervise
from robot_servers.tls import server_context
from robot_servers.tokens import Tokens, load_or_create_tokens
from robot_servers.web import create_server, names_of
from serl_core.errors import ConfigError
from serl_core.exposure import check_exposure, reminded
from serl_core.robots.token import default_token_file
from serl_core.scheduling import go_before_others, spare_what_stays
from serl_core.serving import bind, url_of

if TYPE_CHECKING:
    from robot_servers.serl_routes import SerlArm

__all__ = ["RobotServerArgs", "bind", "create_server", "run_robot_server", "serve", "url_of"]

logger = logging.getLogger(__name__)

GIL_INTERVAL_S = 0.0005  # the control loop must get its turn within a tick


@dataclass(frozen=True, kw_only=True)
class RobotServerArgs(ArmOptions):
    """Serve one arm over HTTP and WebSocket."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 5000
    """Port to listen on; 0 takes a free one."""
    stop_port: int | None = None
    """Port of the stop's own socket; the next one if not given, 0 takes a free one."""
    serl_routes: bool = False
    """Answer HIL-SERL's routes too, without token or lease from this machine; the safety kernel stays in force."""
    serl_clear_errors: bool = False
    """Let a client of those routes clear a latched fault."""
    insecure_lan: bool = False
    """Listen on an address that others can reach, although the connection is not encrypted."""
    tls_certificate: Path | None = None
    """Encrypt with this certificate, PEM; clients trust it by $SERL_CA_FILE."""
    tls_key: Path | None = None
    """The certificate's private key, PEM."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients call this server, besides its address."""
    token_file: Path | None = None
    """The controllers' token, made at the first start; default $SERL_TOKEN_FILE or ~/.config/serl/robot.token.

    Those of observers and administrators are made beside it.
    """
    limits_file: Path | None = None
    """The safety limits of this robot, JSON; the defaults without it."""
    audit_log: Path | None = None
    """Lines about leases, stops, faults, parameters and refused tokens are appended there."""
    ready_file: Path | None = None
    """The server's URL is written there once it answers."""
    real_time_priority: bool = False
    """Go before every ordinary process (SCHED_FIFO)."""
    supervised: bool = False
    """Start the server again when it dies, into a hold, at most 3 times in 10 minutes."""


def run_robot_server(args: RobotServerArgs, stop_memory: StopMemory | None = None) -> None:
    """Serve until SIGTERM or SIGINT. SIGUSR1 latches a stop.

    Raises:
        SerlError: the port is busy, or a file or an option is wrong.
    """
    if args.supervised:
        supervise(lambda memory: run_robot_server(dataclasses.replace(args, supervised=False), memory))
        return
    if args.real_time_priority:
        go_before_others()  # before there is any other thread
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the tokens
    tls = _tls(args)
    check_exposure(args.host, is_encrypted=tls is not None, is_allowed=args.insecure_lan)
    _check_serl_options(args)
    limits = load_limits(args.limits_file)
    tokens = load_or_create_tokens(args.token_file or default_token_file())
    with bind(args.host, args.port) as listener, bind(args.host, _stop_port(args), "--stop-port") as stop_listener:
        # A random start: an epoch from before a restart must never fit a new lease.
        first_epoch = secrets.randbelow(2**31)
        service = RobotService(
            make_backend(args, limits),
            limits,
            audit_log=args.audit_log,
            first_epoch=first_epoch,
            stop_memory=stop_memory,
        )
        serl_arm = _serl_arm(service, args) if args.serl_routes else None
        spare_what_stays()
        serve(
            service,
            tokens,
            listener,
            hosts=args.allowed_hosts,
            ready_file=args.ready_file,
            serl_arm=serl_arm,
            stop_listener=stop_listener,
            tls=tls,
        )


def serve(
    service: RobotService,
    tokens: Tokens | str,
    listener: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    ready_file: Path | None = None,
    serl_arm: "SerlArm | None" = None,
    stop_listener: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Start `service` and serve it on `listener` until told to end; the arm then holds.

    On `stop_listener` a stop is answered while the rest is saturated.
    """
    sys.setswitchinterval(GIL_INTERVAL_S)
    url = url_of(listener, tls)
    place = None if stop_listener is None else StopPlace(stop_listener.getsockname()[1], secrets.token_hex(8))
    stop_socket = None
    service.start()
    try:
        logger.info("robot server at %s: %s", url, health_of(service, place))
        if stop_listener is not None and place is not None:
            names = names_of(listener, hosts)
            stop_socket = StopSocket(stop_listener, service.latch_stop, _all(tokens), names, place.server, tls)
            stop_socket.start()
        server = create_server(
            service, tokens, listener, hosts=hosts, ready_file=ready_file, serl_arm=serl_arm, stop=place, tls=tls
        )
        with reminded("the robot server", listener.getsockname()[0], is_encrypted=tls is not None):
            server.run([listener])
    finally:
        if stop_socket is not None:
            stop_socket.close()
        service.close()
        logger.info("robot server ended; the arm holds")


def _tls(args: RobotServerArgs) -> ssl.SSLContext | None:
    if args.tls_certificate is None and args.tls_key is None:
        return None
    if args.tls_certificate is None or args.tls_key is None:
        raise ConfigError("--tls-certificate and --tls-key belong together; give both, or none")
    return server_context(args.tls_certificate, args.tls_key)


def _stop_port(args: RobotServerArgs) -> int:
    if args.stop_port is not None:
        return args.stop_port
    return 0 if args.port == 0 else args.port + 1


def _all(tokens: Tokens | str) -> Tokens:
    return Tokens.single(tokens) if isinstance(tokens, str) else tokens


def _check_serl_options(args: RobotServerArgs) -> None:
    if args.serl_clear_errors and not args.serl_routes:
        raise ConfigError("--serl-clear-errors is about HIL-SERL's routes; give --serl-routes too, or leave it out")
    if args.serl_routes and args.backend is Backend.SIM and args.clock is ClockKind.LOCKSTEP:
        raise ConfigError("--serl-routes needs --clock real_time: HIL-SERL's clients move no simulated clock on")


def _serl_arm(service: RobotService, args: RobotServerArgs) -> "SerlArm":
    from robot_servers.serl_routes import SerlArm  # scipy takes a while to import

    is_robotiq = args.backend is not Backend.SIM and args.gripper is GripperKind.ROBOTIQ
    return SerlArm(service, may_clear_errors=args.serl_clear_errors, is_255_closed=is_robotiq)
