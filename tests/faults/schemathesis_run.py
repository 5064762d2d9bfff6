"""Schemathesis at a served robot server: its cases come from the OpenAPI document that it is served.

In a process of its own, because it changes how hypothesis works in the one where it runs.
"""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from robot_servers.service import RobotService
from robot_servers.web import create_server
from serl_core.serving import bind, url_of

COMMAND = (sys.executable, "-m", "schemathesis.cli", "run")
PATIENCE_S = 400.0


class Served(NamedTuple):
    """A server in this process, and how often it answered with each status."""

    url: str
    statuses: Counter[int]


@contextmanager
def served(service: RobotService, token: str) -> Iterator[Served]:
    """Serve a started service on a free port of this machine."""
    statuses: Counter[int] = Counter()
    with bind("127.0.0.1", 0) as listener:
        server = create_server(service, token, listener)
        app: Any = server.config.app

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses[message["status"]] += 1
                await send(message)

            await app(scope, receive, noted)

        server.config.app = counted
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Served(url_of(listener), statuses)
        finally:
            server.should_exit = True
            thread.join()


def run_schemathesis(
    url: str, token: str, folder: Path, *, seed: int, examples: int, phases: str = "coverage,fuzzing"
) -> dict[str, Any]:
    """Run it on every route, and return its report; it fails if one answer is of 500 or above.

    Args:
        folder: where it writes; made if there is none.
        examples: random ones per route, of the phase `fuzzing`.
        phases: `coverage` has those at the bounds of each field.
    """
    folder.mkdir(exist_ok=True)
    report = folder / "report.json"
    done = subprocess.run(
        [
            *COMMAND, f"{url}/openapi.json", "--header", f"Authorization: Bearer {token}", "--seed", str(seed),
            "--phases", phases, "--max-examples", str(examples), "--checks", "not_a_server_error",
            "--generation-database", "none", "--no-shrink", "--no-color", "--report-json-path", str(report),
        ],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found
