"""Named points where a process can be made to die, so that tests can kill it at each of them and miss none.

``SERL_FAILPOINT=log.synced:3`` kills this process (SIGKILL: nothing cleans up) when it comes to the point
``log.synced`` for the third time; ``SERL_FAILPOINT=log.synced:3:raise`` raises `Failpoint` there instead, and
``:stop`` freezes the process (SIGSTOP). Several stand side by side with commas. Without it a point costs one look
into an empty dict.
"""

import ast
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from serl_core.errors import ConfigError

VARIABLE = "SERL_FAILPOINT"


class Failpoint(Exception):
    """Stands for a defect: what a thread raises at a point that was armed so."""


class Place(NamedTuple):
    """Where a point stands in the sources."""

    name: str
    file: Path
    line: int


def failpoint(name: str) -> None:
    """Die here if this process was told to. `name` is written out, so that `find_failpoints` sees it."""
    if name in _armed:
        _pass(name)


def arm(text: str) -> None:
    """Arm the points that a text like that of the environment variable names; an empty one disarms all.

    Raises:
        ConfigError: the text is not like that.
    """
    _armed.clear()
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition(":")
        nth, _, action = rest.partition(":")
        if not nth.isdecimal() or int(nth) < 1 or action not in _ACTIONS:
            raise ConfigError(f"{VARIABLE}: {part!r} is not name:nth, name:nth:raise or name:nth:stop, as log.synced:3")
        _armed[name] = (int(nth), action)


def find_failpoints(folders: Iterable[Path]) -> Iterator[Place]:
    """Yield the points in the Python files below the folders, without running them.

    Raises:
        ConfigError: a name is not written out.
    """
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                    (name,) = node.args
                    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                        raise ConfigError(f"{file}:{node.lineno}: write the name of the failpoint out")
                    yield Place(name.value, file, node.lineno)


def _pass(name: str) -> None:
    left, action = _armed[name]
    if left > 1:
        _armed[name] = (left - 1, action)
        return
    del _armed[name]
    _ACTIONS[action](name)


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(name: str) -> None:
    raise Failpoint(f"the failpoint {name} was armed to raise, at {time.monotonic():.3f} s")


def _stop(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


_ACTIONS: dict[str, Callable[[str], None]] = {"": _kill, "raise": _raise, "stop": _stop}
_armed: dict[str, tuple[int, str]] = {}  # how many passes are left, and what then
arm(os.environ.get(VARIABLE, ""))
