"""Reads the arrays of a published pickle without letting it do anything.

A pickle is a program: it names functions of this machine and calls them. Here every name that a pickle of
arrays needs stands for an inert part of this module, and every other name is refused. An array is made only of
bytes whose type and size were checked. For `serl weights convert`; nothing else here reads a pickle.
"""

import functools
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serl_core.errors import DataError

MAX_BYTES = 256 * 1024 * 1024
MAX_ENTRIES = 10_000  # dicts and arrays; a small pickle can name the same ones without end
MAX_DEPTH = 16
DTYPES = ("f2", "f4", "f8")

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of nested dicts in a pickle, by name: the keys joined by "/".

    Raises:
        DataError: there is no such file, it is too large, it is not a pickle, or it holds or names anything
            but dicts and arrays of floating-point numbers; whatever it asked for was not done.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"its size is {size} bytes, allowed are {MAX_BYTES}")
        return _arrays_in(_Reader(io.BytesIO(path.read_bytes())).load())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the pickle of weights that HIL-SERL publishes") from None
    except Exception as error:  # a damaged pickle can raise any
        raise DataError(f"{path}: not a pickle of arrays: {error}; give the one that HIL-SERL publishes") from None


def _arrays_in(tree: object) -> Arrays:
    arrays: Arrays = {}
    pending: list[tuple[str, int, object]] = [("", 0, tree)]
    for _ in range(MAX_ENTRIES):
        if not pending:
            return arrays
        name, depth, node = pending.pop()
        if isinstance(node, _Array) and node.value is not None:
            arrays[name] = node.value
            continue
        if not isinstance(node, dict) or depth == MAX_DEPTH or len(node) > MAX_ENTRIES:
            kind = type(node).__name__.strip("_")
            raise DataError(f"{name or 'its content'} is a {kind}, allowed are arrays in at most {MAX_DEPTH} dicts")
        for key, child in node.items():
            if not isinstance(key, str) or not key or "/" in key:
                raise DataError(f"the name {key!r} of an array is not allowed, it must be text without '/'")
            pending.append((f"{name}/{key}" if name else key, depth + 1, child))
    raise DataError(f"it has more than {MAX_ENTRIES} entries")


class _DType:
    """Stands for numpy.dtype."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in DTYPES:
            raise DataError(f"arrays of type {name!r} are not allowed, only {', '.join(DTYPES)}")
        self.name = str(name)
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">"):
            raise DataError(f"the byte order {state[1]!r} is not allowed, only '<' and '>'")
        self.order = state[1]


class _Array:
    """Stands for a numpy array. `value` is None until its content came."""

    def __init__(self, *_: object) -> None:
        self.value: np.ndarray[Any, np.dtype[Any]] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self._fill(content, dtype, shape, "F" if is_fortran else "C")

    def _fill(self, content: object, dtype: object, shape: object, order: object) -> None:
        if not (isinstance(content, bytes | bytearray) and isinstance(dtype, _DType) and isinstance(shape, tuple)):
            raise DataError("an array's content must be bytes, with a type and a shape")
        numbers = np.frombuffer(content, np.dtype(dtype.order + dtype.name))
        if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) != numbers.size:
            raise DataError(f"an array's shape {shape} does not fit its {numbers.size} numbers")
        self.value = numbers.reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(content: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array._fill(content, dtype, shape, order)
    return array


def _from_jax(_make: object, _args: object, state: tuple[Any, ...], _aval: object) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DataError(f"the encoding {encoding!r} is not allowed, only 'latin1'")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): dict,
    ("flax.core.frozen_dict", "FrozenDict"): dict,
    ("_codecs", "encode"): _encode,  # how protocols 0 to 2 write bytes
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("jax._src.array", "_reconstruct_array"): _from_jax,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in ALLOWED:
            raise DataError(f"it asks for {module}.{name}, which is not an array (nothing was run)")
        return functools.partial(ALLOWED[module, name])  # its own: a pickle can set attributes of what it gets
