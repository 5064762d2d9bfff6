import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from learners.checkpoints import Checkpoints
from serl_core.errors import DataError


def tree(value):
    return {
        "weights": np.full((3, 4), value, np.float32),
        "counts": (np.array(value, np.int32), np.array([value], np.uint32)),
    }


def value_of(checkpoint):
    jax.tree.map(np.testing.assert_array_equal, checkpoint.arrays, tree(checkpoint.facts["value"]))
    return checkpoint.facts["value"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(folder, *values):
    for value in values:
        Checkpoints(folder).save(tree(value), {"value": value})


def test_what_was_saved_comes_back_with_its_types(tmp_path):
    save(tmp_path, 5)
    checkpoint = Checkpoints(tmp_path).newest(tree(0))
    assert value_of(checkpoint) == 5
    assert jax.tree.map(lambda leaf: leaf.dtype, checkpoint.arrays) == jax.tree.map(lambda leaf: leaf.dtype, tree(0))


def test_a_new_run_has_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").newest(tree(0)) is None


def test_the_newest_three_stay(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5)
    assert names(tmp_path) == ["000003", "000004", "000005"]
    assert value_of(Checkpoints(tmp_path).newest(tree(0))) == 5


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "no facts", "no sums"])
def test_a_corrupt_newest_is_passed_over_loudly(tmp_path, caplog, damage):
    save(tmp_path, 1, 2)
    newest = tmp_path / "000002"
    data = max(
        (file for file in (newest / "arrays").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    if damage == "flip":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "truncate":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "remove":
        data.unlink()
    else:
        (newest / {"no facts": "facts.json", "no sums": "sha256.json"}[damage]).unlink()
    assert value_of(Checkpoints(tmp_path).newest(tree(0))) == 1
    assert "000002" in caplog.text


def test_when_none_is_whole_nothing_is_made_up(tmp_path):
    save(tmp_path, 1)
    shutil.rmtree(tmp_path / "000001" / "arrays")
    with pytest.raises(DataError, match="none of the 1 checkpoints"):
        Checkpoints(tmp_path).newest(tree(0))


class Crash(BaseException):
    """Stands for kill -9: nothing may clean up after it."""


def crash_at(monkeypatch, owner, name, call):
    """Let the `call`-th call of a function kill the process."""
    original, left = getattr(owner, name), [call]

    def function(*args, **kwargs):
        if left[0] == 0:
            raise Crash
        left[0] -= 1
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, function)


CRASH_POINTS = [
    (Path, "mkdir", 0),
    (Path, "write_text", 0),
    (Path, "write_text", 1),
    (os, "fsync", 0),
    (os, "fsync", 3),
    (Path, "rename", 0),
    (shutil, "rmtree", 0),
]


@pytest.mark.parametrize(("owner", "name", "call"), CRASH_POINTS)
def test_a_crash_while_saving_leaves_the_newest_or_the_one_before(tmp_path, monkeypatch, owner, name, call):
    save(tmp_path, 1, 2, 3)
    with monkeypatch.context() as patch:
        crash_at(patch, owner, name, call)
        with pytest.raises(Crash):
            save(tmp_path, 4)
    assert value_of(Checkpoints(tmp_path).newest(tree(0))) in (3, 4)
    save(tmp_path, 5)
    assert value_of(Checkpoints(tmp_path).newest(tree(0))) == 5
    assert all(name.isdecimal() for name in names(tmp_path))


def test_a_full_disk_is_reported_and_costs_nothing(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(DataError, match="No space left"):
            save(tmp_path, 2)
    assert names(tmp_path) == ["000001"]
    save(tmp_path, 3)
    assert value_of(Checkpoints(tmp_path).newest(tree(0))) == 3
