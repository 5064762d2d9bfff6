"""A recording that a person starts from the page: a child process of the console, which comes up as an actor."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actors.console.progress import FRAMES
from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

DEMONSTRATIONS, SUCCESSES = 20, 200  # how many, if nobody says
FAILURES = 5  # frames without success, for each one with it
END_TIMEOUT_S = 10.0

What = Literal["demonstrations", "classifier"]

Tell = Callable[[str, str], None]
"""Gets the level and the text of a notice."""


@dataclass(frozen=True, kw_only=True)
class RecorderOptions:
    """What the recording must know."""

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

    @property
    def is_running(self) -> bool:
        """Whether a recording is under way."""
        return self._process is not None

    def why_not(self) -> str | None:
        """Return why `start` would refuse; None if it would not."""
        if self.is_running:
            return "a recording is under way already; end it first"
        if self._options.task is None:
            return "nobody has said which task it is; start the console with --task"
        if self._options.robot is None:
            return "there is no robot server to record with"
        return None

    async def start(self, what: What, count: int | None) -> None:
        """Record what the person at the page does: `count` demonstrations, or so many frames with success.

        Raises:
            ConfigError: one is under way already, or the task is not known.
        """
        refusal, options = self.why_not(), self._options
        if refusal is not None:
            raise ConfigError(refusal)
        assert options.task is not None
        assert options.robot is not None
        common = ["--teleop", "browser", "--task", options.task, "--robot", options.robot]
        common += ["--run", str(options.run), "--token-file", str(options.robot_token_file)]
        if what == "demonstrations":
            arguments = ["record", *common, "--out", str(options.run / "demos")]
            arguments += ["--count", str(count or DEMONSTRATIONS)]
        else:
            successes = count or SUCCESSES
            arguments = ["classifier", "record", *common, "--out", str(options.run / FRAMES), "--label", "page"]
            arguments += ["--positives", str(successes), "--negatives", str(FAILURES * successes)]
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
