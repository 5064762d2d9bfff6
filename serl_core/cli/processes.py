"""Starts the programs as real processes, watches them, and ends them together."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from serl_core.errors import SerlError

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process the way Ctrl-C does: through every `with`, so children end too."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ProcessGroup:
    """Named child processes, each with its own log file, none of which outlives the group."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "ProcessGroup":
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start ``serl <arguments>`` as `name`; its output goes to ``<logs>/<name>.log``."""
        with self._log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "serl_core.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def is_running(self, name: str) -> bool:
        """Return whether `name` is still alive."""
        return self._children[name].poll() is None

    def check(self) -> None:
        """Raise SerlError with the last line of its log if a process has failed."""
        for name, child in self._children.items():
            status = child.poll()
            if status:
                raise SerlError(
                    f"the {name} stopped with status {status}: {self._last_line(name)}; its log is {self._log(name)}"
                )

    def wait_for_file(self, name: str, path: Path, timeout_s: float) -> str:
        """Return the content of the file that process `name` writes when it is ready."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            if path.exists() and (text := path.read_text().strip()):
                return text
            if not self.is_running(name):
                raise SerlError(f"the {name} ended before it was ready; its log is {self._log(name)}")
            time.sleep(0.05)
        raise SerlError(f"the {name} was not ready after {timeout_s:.0f} s; its log is {self._log(name)}")

    def wait(self, name: str, timeout_s: float) -> None:
        """Wait until `name` has ended well; raise SerlError as soon as any process has failed."""
        deadline_s = time.monotonic() + timeout_s
        while self.is_running(name):
            self.check()
            if time.monotonic() > deadline_s:
                raise SerlError(f"the {name} did not end within {timeout_s:.0f} s; its log is {self._log(name)}")
            time.sleep(0.05)
        self.check()

    def stop(self) -> None:
        """Ask every process to end, the newest first; kill what does not. A second Ctrl-C does not cut it short."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._stop()
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self) -> None:
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for name, child in reversed(self._children.items()):
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                logger.warning("the %s did not end when asked, killing it", name)
                child.kill()
                child.wait()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _last_line(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
