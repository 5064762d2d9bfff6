"""What the web servers of this project share: their socket, their signals, and the file that says that they answer.

Needs uvicorn, which only the extras `server` and `console` bring along: nothing else in `serl_core` imports it.
"""

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from serl_core.data.episode_file import write_atomically
from serl_core.errors import SerlError
from serl_core.exposure import check_port


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Return a listening socket.

    Raises:
        SerlError: the port is taken or none, or the address is not this machine's.
    """
    check_port(option, port)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        remedy = f"end what holds it, or choose another with {option}"
        raise SerlError(f"port {port} on {host} cannot be used: {error.strerror}; {remedy}") from None
    # Connections inherit it. asyncio leaves it out on a socket that it did not make: 40 ms per request.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def host_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as it stands in a URL."""
    host = listener.getsockname()[0]
    return f"[{host}]" if ":" in host else str(host)


def url_of(listener: socket.socket, tls: ssl.SSLContext | None = None) -> str:
    """Return where clients find the server of a listening socket."""
    return f"{'http' if tls is None else 'https'}://{host_of(listener)}:{listener.getsockname()[1]}"


class Server(uvicorn.Server):
    """uvicorn, except that a signal to end is obeyed and not raised again: the exit status is 0.

    Args:
        url: where clients find it.
        ready_file: gets that once it answers.
        on_signal: what else it does, by the signal's number.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        url: str,
        ready_file: Path | None = None,
        on_signal: Mapping[int, Callable[[], None]] | None = None,
    ) -> None:
        super().__init__(config)
        self.url = url
        self._ready_file = ready_file
        self._on_signal = dict(on_signal or {})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and only then say so."""
        await super().startup(sockets)
        if self._ready_file is not None:
            write_atomically(self._ready_file, (self.url + "\n").encode())

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Obey signals while it serves."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        actions = {signal.SIGTERM: self._end, signal.SIGINT: self._end, **self._on_signal}
        before = {number: signal.signal(number, lambda number, _: actions[number]()) for number in actions}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        self.should_exit = True
