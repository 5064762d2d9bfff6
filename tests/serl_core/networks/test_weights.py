import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from serl_core.errors import DataError
from serl_core.networks.weights import check_weights, load_policy, load_weights, save_policy

PARAMS = {
    "mlp": {"out": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, np.float32)}},
    "scale": np.float32(2.0) * np.ones(1, np.float32),
}


def test_a_policy_comes_back_as_it_was_saved(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, PARAMS, {"task": "ram", "sac": {"gamma": 0.97}})
    saved = load_policy(path)
    jax.tree.map(np.testing.assert_array_equal, saved.params, PARAMS)
    assert saved.facts["task"] == "ram"
    assert saved.facts["sac"]["gamma"] == 0.97
    assert [file.name for file in tmp_path.iterdir()] == ["policy.safetensors"]


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, PARAMS, {})
    with pytest.raises(DataError, match="scale"):
        save_policy(path, {**PARAMS, "scale": np.array([np.nan], np.float32)}, {})
    assert load_policy(path).params["scale"] == 2.0


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100])
def test_another_file_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a policy file"):
        load_policy(path)


def test_a_torn_file_is_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, PARAMS, {})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="not a policy file"):
        load_policy(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.safetensors: no such policy file"):
        load_policy(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a/b/c")])
def test_an_array_inside_an_array_is_refused(tmp_path, names):
    path = tmp_path / "policy.safetensors"
    save_file({name: np.zeros(2, np.float32) for name in names}, path, metadata={"serl": '{"format": 1}'})
    with pytest.raises(DataError, match="is inside an array"):
        load_policy(path)
    with pytest.raises(DataError, match=r"is inside an array.*do this"):
        load_weights(path, "do this")


def test_weights_of_any_safetensors_file_are_read_as_single_precision(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"conv/kernel": np.ones((2, 2), np.float16)}, path)
    kernel = load_weights(path, "")["conv"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel.shape == (2, 2)


def test_weights_that_are_not_finite_are_refused_when_read(tmp_path):
    bad = {"conv": {"kernel": np.array([np.inf], np.float32)}}
    with pytest.raises(DataError, match=r"w\.safetensors.*conv/kernel.*not finite.*do this"):
        check_weights(tmp_path / "w.safetensors", bad, bad, "do this")
