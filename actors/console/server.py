"""The console as a web server: its socket, its signals, and the file that says that it answers."""

import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from actors.console.app import create_app
from actors.console.auth import LOCAL_HOSTS
from actors.console.browser_messages import MAX_TEXT_BYTES
from actors.console.console import Console
from actors.console.settings import ConsoleSettings
from serl_core.data.episode_file import write_atomically
from serl_core.errors import SerlError


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
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it: 40 ms per message
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where browsers find the console."""
    return f"http://{_name(listener)}:{listener.getsockname()[1]}"


class ConsoleServer(uvicorn.Server):
    """uvicorn with a console inside; a signal to end is obeyed and not raised again: the exit status is 0.

    Args:
        settings: what the console looks at.
        token: for the browsers.
        listener: a listening socket.
        hosts: names by which browsers call it, besides those of this machine.
        ready_file: gets the address once it answers.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        token: str,
        listener: socket.socket,
        *,
        hosts: tuple[str, ...] = (),
        ready_file: Path | None = None,
    ) -> None:
        self.url = url_of(listener)
        self._ready_file = ready_file
        app = create_app(Console(settings), token, (*LOCAL_HOSTS, _name(listener), *hosts))
        super().__init__(
            uvicorn.Config(
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
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and only then say so."""
        await super().startup(sockets)
        if self._ready_file is not None:
            write_atomically(self._ready_file, (self.url + "\n").encode())

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End at SIGTERM and SIGINT."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = True


def _name(listener: socket.socket) -> str:
    host = listener.getsockname()[0]
    return f"[{host}]" if ":" in host else str(host)
