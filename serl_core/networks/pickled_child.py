"""The reader of pickled arrays in a process of its own, which can do nothing else (SAFETY.md 2.2, rule 5).

`pickled_arrays` lets a pickle name nothing but arrays. Should that ever fail, the child has little memory, little time,
writes no file, and ends at the first attempt to open, run, import or connect to anything. Only checked bytes come back.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy

from serl_core.errors import DataError
from serl_core.networks.pickled_arrays import MAX_BYTES, Arrays, read_arrays

MEMORY_BYTES = 4 * MAX_BYTES + 1024**3  # the pickle, its arrays, what goes back, and the libraries
CPU_S = 60
TIMEOUT_S = 120.0
REFUSED, FORBIDDEN = 3, 4  # exit statuses
STDIN = Path("/dev/stdin")
FORBIDDEN_EVENTS = (
    *("open", "exec", "compile", "import", "marshal.", "pickle.", "os.", "subprocess.", "socket.", "ctypes."),
    *("shutil.", "tempfile.", "mmap.", "code.", "sys.add", "builtins.", "fcntl.", "signal."),
)  # the beginnings of the names of Python's audit events


def read_arrays_apart(path: Path, timeout_s: float = TIMEOUT_S) -> Arrays:
    """Return the arrays of nested dicts in a pickle, by name: the keys joined by "/".

    Raises:
        DataError: as of `read_arrays`, or the child was ended because it did, took or waited too much.
    """
    command = [sys.executable, "-I", "-m", "serl_core.networks.pickled_child"]
    try:
        with path.open("rb") as pickle:
            done = subprocess.run(command, stdin=pickle, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the pickle of weights that HIL-SERL publishes") from None
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: not a pickle of arrays: reading it took more than {timeout_s:g} s") from None
    if done.returncode == 0:
        return safetensors.numpy.load(done.stdout)
    if done.returncode == REFUSED:
        raise DataError(done.stdout.decode(errors="replace").replace(str(STDIN), str(path)))
    reason = "it tried to do something else" if done.returncode == FORBIDDEN else "reading it took too much"
    raise DataError(f"{path}: not a pickle of arrays: {reason} (its reader was ended, status {done.returncode})")


def main() -> None:
    """Read the pickle at standard input; write its arrays, or why not, to standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    safetensors.numpy.load(safetensors.numpy.save({"warm": np.zeros(1)}))  # imports what it imports later
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    for nothing in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC):
        resource.setrlimit(nothing, (0, 0))
    sys.addaudithook(_forbid)
    try:
        arrays = read_arrays(STDIN)
        content = safetensors.numpy.save(
            {name: np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("=")) for name, a in arrays.items()}
        )
    except DataError as error:
        answer.write(str(error).encode())
        answer.flush()
        os._exit(REFUSED)
    answer.write(content)
    answer.flush()
    os._exit(0)  # no handler of the end runs under what may have been spoiled


def _forbid(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and args[0] == str(STDIN) and args[1] in ("r", "rb"):
        return
    if event.startswith(FORBIDDEN_EVENTS):
        os._exit(FORBIDDEN)


if __name__ == "__main__":
    main()
