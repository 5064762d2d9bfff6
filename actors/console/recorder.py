"""A recording that a person starts from the page: `serl record` as a child process of the console."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

DEFAULT_COUNT = 20
END_TIMEOUT_S = 10.0

Tell = Callable[[str, str], None]
"""Gets the level and the text of a notice."""


@dataclass(frozen=True, kw_only=True)
class RecorderOptions:
    """What `serl record` must know."""

    run: Path
    robot: str | None  # URL of the robot server; None: there is none
    robot_token_file: Path
    task: str | None  # its name or file; None while nobody has said


class Recorder:
    """One recording at a time. Used on the event loop; nothing here waits for the child but `close`.

    Args:
        options: of the child.
        tell: gets a notice when a recording begins or ends.
    """

    def __init__(self, options: RecorderOptions, tell: Tell) -> None:
        self._options = options
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, count: int | None) -> None:
        """Record demonstrations by the person at the page: `count` of them.

        Raises:
            ConfigError: one is under way already, or the task is not known.
        """
        if self._process is not None:
            raise ConfigError("a recording is under way already; end it first")
        options = self._options
        if options.task is None:
            raise ConfigError("nobody has said which task it is; start the console with --task")
        if options.robot is None:
            raise ConfigError("there is no robot server to record with")
        arguments = ["record", "--teleop", "browser", "--task", options.task, "--robot", options.robot]
        arguments += ["--run", str(options.run), "--out", str(options.run / "demos")]
        arguments += ["--count", str(count or DEFAULT_COUNT), "--token-file", str(options.robot_token_file)]
        log = options.run / "logs" / "recorder.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "serl_core.cli.main", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=asyncio.subprocess.STDOUT,
            )
        self._tell("info", "the recording starts; take a control when the arm is at its start")
        self._watch = asyncio.create_task(self._wait(self._process, log))

    def stop(self) -> None:
        """End the recording; what was recorded stays.

        Raises:
            ConfigError: there is none.
        """
        if self._process is None:
            raise ConfigError("no recording is under way")
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            self._process.terminate()

    async def close(self) -> None:
        """End the recording, if there is one, and wait for its end."""
        if self._process is None or self._watch is None:
            return
        with contextlib.suppress(ConfigError):
            self.stop()
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), END_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._watch

    async def _wait(self, process: asyncio.subprocess.Process, log: Path) -> None:
        status = await process.wait()
        self._process = None
        if status in (0, -signal.SIGTERM):  # the latter: it was ended before it could obey
            self._tell("info", "the recording has ended")
        else:
            said = log.read_text(errors="replace").strip().splitlines()
            self._tell("error", f"the recording failed: {said[-1] if said else f'status {status}'}")
