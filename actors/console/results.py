"""What a run came to: its evaluation with intervals, the videos of the trials, and its report on demand."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

from serl_core.errors import DataError

CLIP = re.compile(r"\A[0-9A-Za-z_-]{1,64}\Z")
REPORT_TIMEOUT_S = 120.0


def load_evaluation(run: Path, clips: Path) -> dict[str, Any]:
    """Return the run's eval.json (None while there is none) and the names of the clips."""
    try:
        result = json.loads((run / "eval.json").read_bytes())
    except (OSError, ValueError):
        result = None
    names = sorted(path.stem for path in clips.glob("*.mp4") if CLIP.match(path.stem)) if clips.is_dir() else []
    return {"evaluation": result, "clips": names}


def clip_path(clips: Path, name: str) -> Path | None:
    """Return the file of a clip; None when there is no such clip."""
    path = clips / f"{name}.mp4"
    return path if CLIP.match(name) and path.is_file() else None


class ReportWriter:
    """Writes `report.html` with `serl report`, in a process of its own: its pictures take seconds of a core."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._is_writing = asyncio.Lock()

    async def write(self) -> Path:
        """Return the report's file, written anew. One at a time.

        Raises:
            DataError: the run has nothing to report yet, or it took too long.
        """
        async with self._is_writing:
            command = (sys.executable, "-P", "-m", "serl_core.cli.main", "report", str(self._run))
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                _, said = await asyncio.wait_for(process.communicate(), REPORT_TIMEOUT_S)
            except TimeoutError:
                raise DataError(f"the report of {self._run} took more than {REPORT_TIMEOUT_S:.0f} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            raise DataError(
                lines[-1].removeprefix("serl report: ") if lines else f"the report of {self._run} could not be written"
            )
        return self._run / "report.html"
