"""The operator's console beside a training: started with it, ended with it, and never in its way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from actors.console.link import TOKEN_FILE, link
from serl_core.cli.processes import ProcessGroup
from serl_core.errors import SerlError

START_TIMEOUT_S = 60.0


@contextmanager
def console_beside(run: Path, task: str, robot: str | None, console: Console) -> Iterator[None]:
    """Serve the console of a run while the context lasts, and print its link.

    A console that does not start, or that fails later, is told and otherwise ignored: the training goes on.

    Args:
        run: folder of the run; it is there already.
        task: name or file.
        robot: address of the robot server; None when the arm is simulated in this process.
        console: the terminal.
    """
    ready = run / "console.url"
    ready.unlink(missing_ok=True)
    # A group of its own: a failure in the other one ends the training.
    with ProcessGroup(run / "logs") as group:
        options = ["--no-robot-server"] if robot is None else ["--robot", robot]
        group.start(
            "console",
            ["console", "--run", str(run), "--task", task, *options, "--port", "0", "--ready-file", str(ready)],
        )
        try:
            url = group.wait_for_file("console", ready, START_TIMEOUT_S)
            token = (run / TOKEN_FILE).read_text().strip()
        except (SerlError, OSError) as error:
            console.print(f"no console: {error}", soft_wrap=True, highlight=False)
        else:
            console.print(f"console: {link(url, token)}", soft_wrap=True, highlight=False)
        yield
