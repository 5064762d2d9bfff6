"""An arm behind a robot server: the `Robot` interface over HTTP, and one WebSocket message per step."""

import logging
import threading
import time
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from serl_core.errors import RobotAway, RobotError
from serl_core.failpoints import failpoint
from serl_core.robots.http_clients import HttpClients
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import (
    API_VERSION,
    SHAPE_HEADER,
    STAMP_HEADER,
    CameraNames,
    EpochCommand,
    GripperCommand,
    Health,
    ImpedanceCommand,
    ImpedanceParams,
    Job,
    JointResetCommand,
    Lease,
    LeaseRequest,
    Message,
    Mode,
    MoveCommand,
    PictureFormat,
    Problem,
    RecoverCommand,
    RobotState,
    SimAdvanceCommand,
    SimResetCommand,
    StreamCommand,
    Vector6,
    Vector7,
    WrenchCommand,
    decode,
    encode,
)
from serl_core.robots.pictures import unpack
from serl_core.robots.problems import error_of
from serl_core.robots.stop import send_stop
from serl_core.robots.stream import Exchange, ExchangeRefused
from serl_core.robots.tls import trust, why_not_there
from serl_core.robots.token import default_token_file, read_token

logger = logging.getLogger(__name__)

CONFLICT = 409  # HTTP
RENEW_S = 0.5
LEASE_PATIENCE_S = 3.0  # a holder that died keeps the lease for 2 s
ADVANCE_S = 0.1  # of simulated time, between looks at a move under way in lockstep
POLL_S = 0.02  # between looks in real time
M = TypeVar("M", bound=Message)


class HttpRobot:
    """The arm at `url`.

    A thread renews the lease for as long as the process runs, also while the caller computes or hangs: then
    the command watchdog holds the arm. A process that dies or is suspended loses the lease.

    Args:
        url: of the robot server, such as ``http://127.0.0.1:5000``.
        owner: who commands, for the people who find the lease taken.
        token_file: default $SERL_TOKEN_FILE, or where a server on this machine keeps it.
        timeout_s: of every network call, beyond the time a step itself takes. A move makes many.
        picture_format: how the cameras' pictures travel: raw costs no time on loopback, JPEG little bandwidth.
    """

    def __init__(
        self,
        url: str,
        *,
        owner: str,
        token_file: Path | None = None,
        timeout_s: float = 5.0,
        picture_format: PictureFormat = PictureFormat.RAW,
    ) -> None:
        self._url = url.rstrip("/")
        self._owner = owner
        self._token_file = token_file or default_token_file()
        self._timeout_s = timeout_s
        self._picture_format = picture_format
        self._clients = HttpClients(self._make_client)
        self._health: Health | None = None  # the newest
        self._stream: Exchange | None = None
        self._lease: Lease | None = None
        self._sequence = 0
        self._is_lockstep = False
        self._is_closing = threading.Event()
        self._renewer: threading.Thread | None = None

    def connect(self) -> None:
        """Reach the server and acquire the lease; wait a moment for that of a holder who died."""
        health = self.health()
        if health.api_version.split(".")[0] != API_VERSION.split(".")[0]:
            raise RobotError(f"robot server at {self._url} speaks API {health.api_version}, this client {API_VERSION}")
        self._is_lockstep = health.clock == "lockstep"
        self._sequence = 0
        try:
            self._lease = self._acquire()
            self._open_stream()
        except RobotError:
            self.close()
            raise
        self._is_closing.clear()
        self._renewer = threading.Thread(target=self._renew, args=(self._lease.epoch,), daemon=True)
        self._renewer.start()

    def close(self) -> None:
        """Release the lease; if the server does not answer, it runs out there. Safe to call twice."""
        self._is_closing.set()
        if self._renewer is not None:
            self._renewer.join()
            self._renewer = None
        self._close_stream()
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                self._post("/v1/lease", LeaseRequest(action="release", owner=self._owner, epoch=lease.epoch), Lease)
            except RobotError as error:
                logger.warning("the lease was not released: %s", error)
        self._clients.close()

    def health(self) -> Health:
        """Return what stands behind the interface; needs neither lease nor token."""
        try:
            response = httpx.get(
                f"{self._url}/v1/health", timeout=self._timeout_s, trust_env=False, verify=trust(self._url)
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._not_there(error) from None
        self._health = self._answer(response, Health)
        return self._health

    def state(self) -> RobotState:
        """Return the newest state."""
        return self._send("GET", "/v1/state", None, RobotState)

    def step(self, pose: Vector7, reply_after_s: float, gripper: float | None = None) -> RobotState:
        """Send one target and return the state `reply_after_s` later, on the robot's clock.

        One that came late is refused (see `is_late`) and never sent anew: it was chosen for where the arm was then.
        """
        epoch = self._epoch()
        stream = self._stream or self._open_stream()
        self._sequence += 1
        command = StreamCommand(
            epoch=epoch,
            sequence=self._sequence,
            pose=pose,
            reply_after_s=reply_after_s,
            gripper=gripper,
            sent_s=time.monotonic(),
        )
        try:
            reply = stream.ask(encode(command), reply_after_s + self._timeout_s)
        except OSError as error:
            self._close_stream()  # a reply that comes late must not answer the next step
            raise RobotAway(f"the stream to the robot server at {self._url} broke: {error}") from None
        try:
            return decode(reply, RobotState)
        except msgspec.ValidationError:
            raise self._error(reply) from None

    def hold(self) -> None:
        """Stay where the arm is measured now, at once."""
        self._post("/v1/hold", EpochCommand(epoch=self._epoch()), RobotState)

    def move(self, pose: Vector7, speed_m_s: float = 0.15, speed_rad_s: float = 0.6) -> RobotState:
        """Move smoothly to `pose` on the server; block until there."""
        command = MoveCommand(epoch=self._epoch(), pose=pose, speed_m_s=speed_m_s, speed_rad_s=speed_rad_s)
        return self._finish(self._post("/v1/move", command, Job))

    def joint_reset(self) -> RobotState:
        """Move slowly to the rest posture in joint space; block until there."""
        return self._finish(self._post("/v1/joint_reset", JointResetCommand(epoch=self._epoch()), Job))

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Change gains and clips; they ramp."""
        self._post("/v1/impedance", ImpedanceCommand(epoch=self._epoch(), params=params), RobotState)

    def set_wrench(self, wrench: Vector6) -> None:
        """Push with `wrench` (tool frame) on top of the impedance for 0.1 s of robot time; returns at once."""
        self._post("/v1/wrench", WrenchCommand(epoch=self._epoch(), wrench=wrench), RobotState)

    def set_gripper(self, position: float) -> None:
        """Open (1) or close (0) the gripper; returns at once."""
        self._post("/v1/gripper", GripperCommand(epoch=self._epoch(), position=position), RobotState)

    def recover(self) -> None:
        """Clear the latched fault; without one, the gripper's; without that, as after a stop, nothing happens.

        Also beside the program that holds the lease: a person decides this, not who commands the arm.
        """
        state = self.state()
        cause = state.fault if state.mode is Mode.FAULT else None if state.mode is Mode.STOPPED else state.gripper_fault
        if cause is not None:
            self._post("/v1/recover", RecoverCommand(epoch=self._epoch_in_force(state), cause=cause), RobotState)

    def stop(self) -> None:
        """Latch a software stop; needs no lease. Goes to the stop's own socket first, and needs no other answer."""
        token = read_token(self._token_file)
        send_stop(self._url, token, self._health, lambda: self._send("POST", "/v1/stop", None, RobotState))

    def resume(self) -> None:
        """Clear a latched stop; the arm holds where it is. Also beside the program that holds the lease."""
        self._post("/v1/resume", EpochCommand(epoch=self._epoch_in_force(self.state())), RobotState)

    def sim_reset(self, seed: int | None = None, pose: Vector7 | None = None) -> RobotState:
        """Begin the simulated scene anew with the arm at `pose`, at once."""
        return self._post("/v1/sim/reset", SimResetCommand(epoch=self._epoch(), seed=seed, pose=pose), RobotState)

    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras at the robot."""
        return self._send("GET", "/v1/cameras", None, CameraNames).names

    def camera(self, name: str, height: int = 128, width: int = 128) -> CameraImage:
        """Return the newest picture of a camera at the robot."""
        query = f"height={height}&width={width}&format={self._picture_format.value}"
        response = self._request("GET", f"/v1/cameras/{quote(name, safe='')}?{query}")
        if response.status_code >= 400:
            raise self._error(response.content)
        try:
            stamp_s = float(response.headers[STAMP_HEADER])
            shape = tuple(int(side) for side in response.headers[SHAPE_HEADER].split(","))
            if shape != (height, width, 3):
                raise ValueError(f"the picture is of shape {shape}")
            return CameraImage(unpack(response.content, self._picture_format, height, width), stamp_s)
        except (KeyError, ValueError) as error:
            raise self._not_ours(error) from None

    # ---- the lease

    def _acquire(self) -> Lease:
        give_up_s = time.monotonic() + LEASE_PATIENCE_S
        while True:
            try:
                request = LeaseRequest(action="acquire", owner=self._owner, pose_epoch=self.state().pose_epoch)
                return self._post("/v1/lease", request, Lease)
            except RobotError as error:
                if error.status != CONFLICT or time.monotonic() > give_up_s:
                    raise
            time.sleep(0.1)

    def _renew(self, epoch: int) -> None:
        request = LeaseRequest(action="renew", owner=self._owner, epoch=epoch)
        while not self._is_closing.wait(RENEW_S):
            failpoint("robot.renew_lease")
            try:
                self._post("/v1/lease", request, Lease)
            except RobotError as error:
                logger.warning("the lease was not renewed: %s", error)
                if error.status == CONFLICT:
                    return

    def _epoch_in_force(self, state: RobotState) -> int:
        """Return the epoch of the present lease, whoever holds it."""
        return state.lease_epoch if self._lease is None and state.lease_epoch else self._epoch()

    def _epoch(self) -> int:
        if self._lease is None:
            raise RobotError("connect() first: the arm takes commands from its lease holder only")
        return self._lease.epoch

    # ---- waiting

    def _finish(self, job: Job) -> RobotState:
        """Let time pass until `job` ends, and return the state then."""
        while job.state == "running":
            if self._is_lockstep:
                command = SimAdvanceCommand(epoch=self._epoch(), duration_s=ADVANCE_S)
                self._post("/v1/sim/advance", command, RobotState)
            else:
                time.sleep(POLL_S)
            job = self._send("GET", f"/v1/jobs/{job.id}", None, Job)
        if job.state != "succeeded":
            raise RobotError(f"the {job.kind.replace('_', ' ')} {job.state}: {job.detail}", cause=job.cause)
        return self.state()

    # ---- the wire

    def _post(self, path: str, message: Message, kind: type[M]) -> M:
        return self._send("POST", path, message, kind)

    def _send(self, method: str, path: str, message: Message | None, kind: type[M]) -> M:
        return self._answer(self._request(method, path, message), kind)

    def _request(self, method: str, path: str, message: Message | None = None) -> httpx.Response:
        content = None if message is None else encode(message)
        headers = None if message is None else {"Content-Type": "application/json"}
        try:
            with self._clients.taken() as http:
                return http.request(method, path, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._not_there(error) from None

    def _make_client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {read_token(self._token_file)}"},
            timeout=self._timeout_s,
            trust_env=False,
            verify=trust(self._url),
        )

    def _answer(self, response: httpx.Response, kind: type[M]) -> M:
        if response.status_code >= 400:
            raise self._error(response.content)
        try:
            return decode(response.content, kind)
        except msgspec.DecodeError as error:
            raise self._not_ours(error) from None

    def _not_ours(self, error: Exception) -> RobotError:
        return RobotError(f"{self._url} is no robot server of API {API_VERSION}: {error}")

    def _error(self, body: bytes | str) -> RobotError:
        try:
            problem = decode(body, Problem)
        except msgspec.DecodeError:
            return RobotError(f"{self._url} is no robot server of API {API_VERSION}: it answers {body[:80]!r}")
        if problem.status == 401:
            return RobotError(
                f"the robot server at {self._url} refuses the token in {self._token_file}; "
                "copy the server's token file, or give its path with --token-file",
                status=401,
            )
        return error_of(problem)

    def _not_there(self, error: Exception) -> RobotError:
        if isinstance(error, (httpx.TimeoutException, TimeoutError)):
            return RobotAway(f"the robot server at {self._url} did not answer within {self._timeout_s:g} s")
        return RobotAway(why_not_there(self._url, error))

    def _open_stream(self) -> Exchange:
        url = self._url.replace("http", "ws", 1) + "/v1/stream"
        try:
            self._stream = Exchange(url, {"Authorization": f"Bearer {read_token(self._token_file)}"}, self._timeout_s)
        except ExchangeRefused as refused:
            raise self._error(refused.body) from None
        except OSError as error:
            raise self._not_there(error) from None
        return self._stream

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
