"""A page of numbers over HTTP on this machine alone: ``GET /metrics`` for Prometheus.

Reading it needs no token: it tells counts and ages, no experience, and changes nothing. Who is on another machine
comes through a tunnel. A program serves it from a thread of its own; a slow reader holds up nobody else.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from serl_core.data.episode_file import write_atomically
from serl_core.errors import ConfigError
from serl_core.exposure import check_port
from serl_core.metrics_text import CONTENT_TYPE, Sample, process_samples, render

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PATH = "/metrics"
REQUEST_TIMEOUT_S = 2.0
POLL_S = 0.1  # how soon the end of the program is noticed

Collect = Callable[[], Iterable[Sample]]
"""What to tell now. Called from a thread of the server: it reads numbers, and waits for nobody."""


class MetricsServer:
    """Serves what `collect` returns, and what this process holds of the machine.

    Args:
        collect: see there.
        port: 0 takes a free one; `url` tells which.
        ready_file: gets the URL.
    """

    def __init__(self, collect: Collect, *, port: int = 0, ready_file: Path | None = None) -> None:
        self._collect = collect
        self._port = port
        self._ready_file = ready_file
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the page is."""
        assert self._server is not None, "open it first"
        return f"http://{HOST}:{self._server.server_port}{PATH}"

    def __enter__(self) -> "MetricsServer":
        """Listen. Raises ConfigError when the port is taken, or is none."""
        check_port("--metrics-port", self._port)
        try:
            self._server = _Server(self._collect, self._port)
        except OSError as error:
            raise ConfigError(
                f"--metrics-port {self._port}: {error.strerror}; end what holds it, or choose another (0: a free one)"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="metrics", daemon=True)
        self._thread.start()
        if self._ready_file is not None:
            write_atomically(self._ready_file, (self.url + "\n").encode())
        logger.info("metrics at %s", self.url)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, collect: Collect, port: int) -> None:
        self.collect = collect
        super().__init__((HOST, port), _Page)

    def handle_error(self, request: object, client_address: object) -> None:
        logger.debug("a reader of the metrics left early", exc_info=True)


class _Page(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with the numbers as they are now."""
        if self.path != PATH or "Origin" in self.headers or not self._is_ours(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = render([*self.server.collect(), *process_samples()]).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape every few seconds is not news."""

    @staticmethod
    def _is_ours(host: str) -> bool:
        """Return whether a Host header names this machine: a web page that rebinds a name does not."""
        return host.rsplit(":", 1)[0] in (HOST, "localhost")
