import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from serl_core.cli.main import main
from serl_core.image_config import EncoderConfig
from serl_core.networks import resnet
from serl_core.networks.frozen import load_encoder, resnet_weights


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), resnet.shapes())


def pickled(tmp_path: Path, tree: object) -> str:
    path = tmp_path / "resnet10_params.pkl"
    path.write_bytes(pickle.dumps(tree))
    return str(path)


@pytest.mark.parametrize("is_whole", [False, True])
def test_the_published_pickle_becomes_the_encoder_that_runs_take(published, tmp_path, capsys, is_whole):
    tree = {"params": {**published, "output_head": {"kernel": np.zeros((512, 1000), np.float32)}}}
    assert main(["weights", "convert", pickled(tmp_path, tree if is_whole else published)]) == 0
    encoder = load_encoder(EncoderConfig())
    assert encoder.identity.startswith("resnet10-")
    assert encoder.identity in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, encoder.params, published)


def test_the_file_can_go_elsewhere(published, tmp_path):
    out = tmp_path / "folder" / "mine.safetensors"
    assert main(["weights", "convert", pickled(tmp_path, published), str(out)]) == 0
    assert out.exists()
    assert not resnet_weights().exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tree: tree.pop("conv_init"), "conv_init/kernel"),
        (lambda tree: tree.pop("norm_init"), "norm_init/bias"),
        (lambda tree: tree["conv_init"].update(kernel=np.zeros((3, 3, 3, 64), np.float32)), "(3, 3, 3, 64)"),
        (lambda tree: tree["norm_init"].update(scale=np.full(64, np.nan, np.float32)), "not finite"),
        (lambda tree: tree.update(other=print), "builtins.print"),
    ],
)
def test_other_weights_are_refused_in_one_sentence(published, tmp_path, capsys, spoil, words):
    spoil(published)
    assert main(["weights", "convert", pickled(tmp_path, published)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not resnet_weights().exists()
