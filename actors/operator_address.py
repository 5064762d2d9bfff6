"""The file by which consoles of this machine find an actor."""

import os
from pathlib import Path

import msgspec

from serl_core.errors import DataError
from serl_core.operator.messages import OperatorAddress


def write_address(path: Path, address: OperatorAddress) -> None:
    """Write the line, all or nothing, readable by its owner alone from the first moment on.

    Raises:
        DataError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(address) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"operator file {path} cannot be written: {error.strerror}; choose another --run") from None
