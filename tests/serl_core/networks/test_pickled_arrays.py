import collections
import os
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from serl_core.errors import DataError
from serl_core.networks import pickled_arrays
from serl_core.networks.pickled_arrays import read_arrays

ARRAYS = {
    "conv": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "t": np.asfortranarray(np.eye(2, 3))},
    "scale": np.array([1.5, -2.0], ">f4"),
    "scalar": np.array(3.0, np.float16),
}


def written(tmp_path: Path, content: object, protocol: int = 4) -> Path:
    path = tmp_path / "weights.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


class Call:
    """What a malicious pickle is made of: calls `function` when it is read."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back_as_they_were(tmp_path, protocol):
    arrays = read_arrays(written(tmp_path, ARRAYS, protocol))
    assert set(arrays) == {"conv/kernel", "conv/t", "scale", "scalar"}
    for name, expected in ARRAYS["conv"].items():
        np.testing.assert_array_equal(arrays[f"conv/{name}"], expected)
    for name in ("scale", "scalar"):
        np.testing.assert_array_equal(arrays[name], ARRAYS[name])


def test_the_dicts_and_arrays_of_flax_and_jax_are_read(tmp_path):
    tree = collections.OrderedDict(params=FrozenDict({"kernel": jnp.arange(3.0)}))
    np.testing.assert_array_equal(read_arrays(written(tmp_path, tree))["params/kernel"], [0.0, 1.0, 2.0])


def test_a_pickle_of_the_older_numpy_is_read(tmp_path):
    new = pickle.dumps(ARRAYS["conv"], 2)
    assert b"numpy._core.multiarray" in new
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_arrays(written(tmp_path, old))["kernel"], ARRAYS["conv"]["kernel"])


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_the_system_is_refused_and_does_nothing(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = {"kernel": ARRAYS["scale"], "more": Call(os.system, f"touch {trace}")}
    pickle.loads(pickle.dumps(content, protocol))  # noqa: S301 our own, to show that it would do harm
    assert trace.exists()
    trace.unlink()
    with pytest.raises(DataError, match=r"weights\.pkl.*(posix|nt)\.system.*nothing was run"):
        read_arrays(written(tmp_path, content, protocol))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Call(eval, "1 + 1"), "eval"),
        (Call(np.load, "x.npy"), "load"),
        ({"a": np.array([{}, print], object)}, "O8"),
        ({"a": np.array([1, 2])}, "i8"),
        ({"a": np.array([(1.0, 2)], [("x", "f4"), ("y", "i4")])}, "V8"),
        ({"a": [np.zeros(2)]}, "a is a list"),
        ({"a": 1.0}, "a is a float"),
        ({"a/b": np.zeros(2)}, "a/b"),
        ({1: np.zeros(2)}, "name 1"),
        ({"a": Call(np.ndarray, (10**9, 10**9))}, "a is a Array"),
        (Call(np.dtype, "f4"), "DType"),
        (b"", "Ran out of input"),
        (b"nonsense", "not a pickle of arrays"),
        (pickle.dumps(ARRAYS)[:-20], "truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_in_a_sentence(tmp_path, content, words):
    with pytest.raises(DataError) as refused:
        read_arrays(written(tmp_path, content))
    assert words in str(refused.value)
    assert "weights.pkl" in str(refused.value)


def test_a_shape_that_does_not_fit_the_bytes_is_refused(tmp_path):
    good = pickle.dumps(np.zeros((2, 3), np.float32), 2)
    bad = good.replace(b"K\x02K\x03\x86", b"K\x02K\xff\x86")
    assert bad != good
    with pytest.raises(DataError, match=r"shape \(2, 255\) does not fit its 6 numbers"):
        read_arrays(written(tmp_path, bad))


def test_dicts_without_end_are_refused(tmp_path):
    bomb: dict = {}
    for _ in range(10):
        bomb = {str(i): bomb for i in range(10)}
    loop: dict = {}
    loop["again"] = loop
    with pytest.raises(DataError, match="entries"):
        read_arrays(written(tmp_path, bomb))
    with pytest.raises(DataError, match="16 dicts"):
        read_arrays(written(tmp_path, loop))


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled_arrays, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="allowed are 10"):
        read_arrays(written(tmp_path, ARRAYS))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.pkl: no such file"):
        read_arrays(tmp_path / "gone.pkl")


def test_a_pickle_cannot_change_the_reader(tmp_path):
    content = b"c_codecs\nencode\n(N}S'spoilt'\nS'yes'\nstb."
    with pytest.raises(DataError, match="not a pickle of arrays"):
        read_arrays(written(tmp_path, content))
    assert not hasattr(pickled_arrays._encode, "spoilt")
