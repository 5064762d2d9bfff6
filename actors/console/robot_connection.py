"""One HTTP connection to a robot server, for one thread: an observer's, without a lease."""

import http.client
import socket
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from serl_core.errors import ConfigError, RobotError
from serl_core.robots.messages import Health, Message, Problem, RobotState, decode, encode
from serl_core.robots.problems import error_of
from serl_core.robots.stop import send_stop
from serl_core.robots.tls import client_context, why_not_there
from serl_core.robots.token import read_token

M = TypeVar("M", bound=Message)


class Answer(NamedTuple):
    """What the server answered, whatever it was."""

    status: int
    headers: http.client.HTTPMessage  # names in any letters
    body: bytes


class RobotConnection:
    """Stays open between calls; opened anew when the server has closed it. Calls block up to `timeout_s`.

    Args:
        url: of the robot server.
        token_file: of the robot server; read at each opening, so that a new token counts at once.
        timeout_s: of each wait for the network.
    """

    def __init__(self, url: str, token_file: Path, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._timeout_s = timeout_s
        self._headers: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, kind: type[M]) -> M:
        """Return the message at `path`. Raises RobotError."""
        return self._message(self.ask("GET", path), kind)

    def post(self, path: str, message: Message | None, kind: type[M]) -> M:
        """Send a command and return the answer. Raises RobotError."""
        return self._message(self.ask("POST", path, message), kind)

    def stop(self, known: Health | None) -> None:
        """Latch the software stop, over the stop's own socket where there is one. Raises RobotError."""
        token = read_token(self._token_file)
        send_stop(self._url, token, known, lambda: self.post("/v1/stop", None, RobotState))

    def ask(self, method: str, path: str, message: Message | None = None) -> Answer:
        """Return the answer to a request.

        Raises:
            RobotError: there is none in time, or it is a refusal.
        """
        is_reused = self._connection is not None
        try:
            return self._ask(method, path, message)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            if not is_reused or isinstance(error, TimeoutError):
                raise self._not_there(error) from None
        try:  # the server closes what is idle for some seconds: that is no failure
            return self._ask(method, path, message)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._not_there(error) from None

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, message: Message | None) -> Answer:
        connection = self._connection or self._open()
        body = None if message is None else encode(message)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if answer.status >= 400:
            raise self._refused(answer)
        return answer

    def _open(self) -> http.client.HTTPConnection:
        address = split_url(self._url)
        self._headers = {"Authorization": f"Bearer {read_token(self._token_file)}"}
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=self._timeout_s)
        if address.is_encrypted:
            self._connection = http.client.HTTPSConnection(
                address.host, address.port, timeout=self._timeout_s, context=client_context()
            )
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._connection

    def _message(self, answer: Answer, kind: type[M]) -> M:
        try:
            return decode(answer.body, kind)
        except msgspec.DecodeError as error:
            raise RobotError(f"{self._url} is no robot server of this version: {error}") from None

    def _refused(self, answer: Answer) -> RobotError:
        if answer.status == 401:
            return RobotError(
                f"the robot server at {self._url} refuses the token in {self._token_file}; copy the server's "
                "token file, or give its path with --token-file",
                status=401,
            )
        try:
            return error_of(decode(answer.body, Problem))
        except msgspec.DecodeError:
            return RobotError(f"{self._url} is no robot server: it answers {answer.body[:80]!r}", status=answer.status)

    def _not_there(self, error: Exception) -> RobotError:
        if isinstance(error, TimeoutError):
            return RobotError(f"the robot server at {self._url} did not answer within {self._timeout_s:g} s")
        return RobotError(why_not_there(self._url, error))


class NoRobotConnection(RobotConnection):
    """Stands where there is no robot server: every call is refused at once."""

    def __init__(self) -> None:
        super().__init__("", Path(), 0.0)

    def stop(self, known: Health | None) -> None:
        """Raise RobotError."""
        self.ask("POST", "/v1/stop")

    def ask(self, method: str, path: str, message: Message | None = None) -> Answer:
        """Raise RobotError."""
        raise RobotError("there is no robot server: the arm is simulated in the training's own process")


class Address(NamedTuple):
    """Where a robot server listens."""

    host: str
    port: int
    is_encrypted: bool


def split_url(url: str) -> Address:
    """Return the parts of a robot server's URL.

    Raises:
        ConfigError: it is not like http://127.0.0.1:5000.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"--robot: must be like http://127.0.0.1:5000, got {url!r}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigError(f"--robot: must be like http://127.0.0.1:5000, got {url!r}")
    return Address(parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https")
