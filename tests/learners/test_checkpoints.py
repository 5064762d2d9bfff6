import json
import os
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest

from learners import checkpoints
from learners.checkpoints import Checkpoints
from serl_core.errors import DataError
from serl_core.failpoints import Failpoint, arm, find_failpoints


def tree(value):
    return {
        "weights": np.full((3, 4), value, np.float32),
        "counts": (np.array(value, np.int32), np.array([value], np.uint32)),
    }


def value_of(checkpoint):
    jax.tree.map(np.testing.assert_array_equal, checkpoint.arrays_like(tree(0)), tree(checkpoint.facts["value"]))
    return checkpoint.facts["value"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(folder, *values):
    for value in values:
        Checkpoints(folder).save(tree(value), {"value": value})


def test_what_was_saved_comes_back_with_its_types(tmp_path):
    save(tmp_path, 5)
    checkpoint = Checkpoints(tmp_path).newest()
    assert value_of(checkpoint) == 5
    arrays = checkpoint.arrays_like(tree(0))
    assert jax.tree.map(lambda leaf: leaf.dtype, arrays) == jax.tree.map(lambda leaf: leaf.dtype, tree(0))


def test_a_new_run_has_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").newest() is None


def test_the_newest_three_stay(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5)
    assert names(tmp_path) == ["000003", "000004", "000005"]
    assert value_of(Checkpoints(tmp_path).newest()) == 5


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "no facts", "no sums"])
def test_a_corrupt_newest_is_passed_over_loudly(tmp_path, caplog, damage):
    save(tmp_path, 1, 2)
    newest = tmp_path / "000002"
    data = newest / "arrays.safetensors"
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
    assert value_of(Checkpoints(tmp_path).newest()) == 1
    assert "000002" in caplog.text


def test_when_none_is_whole_nothing_is_made_up(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "000001" / "arrays.safetensors").unlink()
    with pytest.raises(DataError, match="none of the 1 checkpoints"):
        Checkpoints(tmp_path).newest()


POINTS_OF_A_SAVE = {
    place.name for place in find_failpoints([Path(checkpoints.__file__).parent]) if place.name.startswith("checkpoint.")
}


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(POINTS_OF_A_SAVE))
def test_a_crash_while_saving_leaves_the_newest_or_the_one_before(tmp_path, name, nth):
    save(tmp_path, 1, 2, 3)
    arm(f"{name}:{nth}:raise")
    with suppress(Failpoint):  # not every point is passed three times
        save(tmp_path, 4)
    arm("")
    assert value_of(Checkpoints(tmp_path).newest()) in (3, 4)
    save(tmp_path, 5)
    assert value_of(Checkpoints(tmp_path).newest()) == 5
    assert all(name.isdecimal() for name in names(tmp_path))


def test_a_full_disk_is_reported_and_costs_nothing(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="No space left"):
            save(tmp_path, 2)
    assert names(tmp_path) == ["000001"]
    save(tmp_path, 3)
    assert value_of(Checkpoints(tmp_path).newest()) == 3


def test_a_folder_that_has_gone_is_not_made_anew_and_may_come_back(tmp_path):
    """It was made again, and numbered from 1, while the other was somewhere else."""
    folder = tmp_path / "checkpoints"
    kept = Checkpoints(folder)
    kept.save(tree(1), {"value": 1})
    folder.rename(tmp_path / "away")
    with pytest.raises(DataError, match="is gone"):
        kept.save(tree(2), {"value": 2})
    (tmp_path / "away").rename(folder)
    kept.save(tree(3), {"value": 3})
    assert names(folder) == ["000001", "000002"]


def test_another_network_is_refused_by_the_name_of_an_array(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(
        DataError, match=r"of another network: 1 arrays differ, such as \['weights'\], saved as float32"
    ):
        Checkpoints(tmp_path).newest().arrays_like(tree(0) | {"weights": np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize(("written", "remedy"), [({"a": "b"}, "--fresh"), ({"format": 99}, "--upgrade")])
def test_another_format_is_refused_with_a_command(tmp_path, written, remedy):
    save(tmp_path, 1, 2)
    (tmp_path / "000002" / "sha256.json").write_text(json.dumps(written))
    with pytest.raises(DataError, match=rf"this version reads 2: .*{remedy}"):
        Checkpoints(tmp_path).newest()


def test_what_was_set_aside_stays(tmp_path):
    folder = tmp_path / "checkpoints"
    assert Checkpoints(folder).set_aside() is None
    for value in (1, 2):
        save(folder, value)
        assert Checkpoints(folder).set_aside() == tmp_path / f"checkpoints-{value}"
        assert Checkpoints(folder).newest() is None
    assert value_of(Checkpoints(tmp_path / "checkpoints-1").newest()) == 1
