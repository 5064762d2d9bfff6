import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from serl_core.errors import ConfigError, DataError
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks import frozen, resnet, small_cnn
from serl_core.networks.frozen import FrozenEncoder, load_encoder
from serl_core.networks.weights import save_weights

RANDOM = EncoderConfig(kind=EncoderKind.RANDOM)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def random_resnet() -> dict:
    shapes, random = resnet.shapes(), np.random.default_rng(0)
    return jax.tree.map(lambda leaf: 0.05 * random.standard_normal(leaf.shape, np.float32), shapes)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 35)])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_features_have_the_shape_that_was_said(batch, height, width):
    encoder = load_encoder(RANDOM)
    features = jax.jit(encoder.encode)(pictures(*batch, height, width, 3))
    assert features.shape == (*batch, *encoder.feature_shape(height, width))
    assert features.dtype == np.float16


def test_an_image_has_the_same_features_alone_and_in_a_batch():
    encoder = load_encoder(RANDOM)
    images = pictures(2, 3, 32, 32, 3)
    together = jax.jit(encoder.encode)(images)
    alone = jax.jit(encoder.encode)(images[1, 2])
    np.testing.assert_allclose(together[1, 2], alone, atol=2e-3)


def test_features_of_a_128_pixel_image_are_8_by_8_by_64():
    assert load_encoder(RANDOM).feature_shape(128, 128) == (8, 8, 64)


def test_features_ignore_the_brightness_and_contrast_of_the_whole_image():
    encode = jax.jit(load_encoder(RANDOM).encode)
    dark = pictures(32, 32, 3) // 4 + 20
    np.testing.assert_allclose(encode(dark), encode(2 * dark + 10), atol=5e-3)


def test_the_features_of_an_image_of_one_colour_are_finite():
    assert np.isfinite(load_encoder(RANDOM).encode(np.full((16, 16, 3), 255, np.uint8))).all()


def test_the_random_encoder_is_the_same_every_time():
    first, second = load_encoder(RANDOM), load_encoder(RANDOM)
    assert first.identity == second.identity
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


def test_the_identity_changes_with_any_weight_and_name_and_shape():
    params = small_cnn.init(0)
    other = jax.tree.map(np.copy, params)
    other["norm_3"]["bias"][-1] += 1e-6
    renamed = {("norm_9" if name == "norm_3" else name): part for name, part in params.items()}
    reshaped = {**params, "conv_0": {"kernel": params["conv_0"]["kernel"].reshape(-1)}}
    hashes = [frozen.weights_hash(tree) for tree in (params, other, renamed, reshaped)]
    assert len(set(hashes)) == 4
    assert frozen.weights_hash(dict(reversed(params.items()))) == hashes[0]


def test_the_package_brings_the_small_encoder_and_takes_it_by_default(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"):
        encoder = load_encoder(EncoderConfig())
    assert encoder.kind is EncoderKind.SMALL
    assert encoder.identity.startswith("small-")
    assert encoder.identity in caplog.text
    assert frozen.SMALL_WEIGHTS.stat().st_size < 3_000_000
    assert encoder.identity.removeprefix("small-") != load_encoder(RANDOM).identity.removeprefix("random-")


def test_resnet_is_taken_where_its_weights_are(random_resnet):
    frozen.resnet_weights().parent.mkdir(parents=True)
    save_weights(frozen.resnet_weights(), random_resnet, {})
    encoder = load_encoder(EncoderConfig())
    assert encoder.kind is EncoderKind.RESNET10
    assert encoder.feature_shape(128, 128) == (4, 4, 512)
    assert load_encoder(EncoderConfig(kind=EncoderKind.SMALL)).kind is EncoderKind.SMALL


def test_weights_of_another_file_are_used_and_change_the_identity(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    save_weights(path, jax.tree.map(lambda leaf: leaf.astype(np.float16), small_cnn.init(5)), {})
    config = EncoderConfig(kind=EncoderKind.SMALL, weights=str(path))
    mine = load_encoder(config)
    assert mine.identity != load_encoder(EncoderConfig(kind=EncoderKind.SMALL)).identity
    assert mine.params["conv_0"]["kernel"].dtype == np.float32


def test_resnet_without_its_weights_names_the_file_and_the_command():
    with pytest.raises(DataError, match=r"resnet10\.safetensors: no such file.*serl weights convert"):
        load_encoder(EncoderConfig(kind=EncoderKind.RESNET10))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path):
    path = tmp_path / "small.safetensors"
    wide = small_cnn.init(0)
    wide["conv_0"]["kernel"] = np.zeros((3, 3, 3, 16), np.float32)
    save_weights(path, wide, {})
    config = EncoderConfig(kind=EncoderKind.SMALL, weights=str(path))
    with pytest.raises(DataError, match=r"small\.safetensors.*conv_0/kernel.*\(3, 3, 3, 16\).*\(3, 3, 3, 32\)"):
        load_encoder(config)
    with pytest.raises(DataError, match=r"missing.*serl weights convert"):
        load_encoder(dataclasses.replace(config, kind=EncoderKind.RESNET10))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04N."])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "small.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"small\.safetensors: not a safetensors file.*serl encoder pretrain"):
        load_encoder(EncoderConfig(kind=EncoderKind.SMALL, weights=str(path)))


@pytest.mark.parametrize("kind", [EncoderKind.AUTO, EncoderKind.RANDOM])
def test_a_file_for_no_certain_network_is_refused(kind: EncoderKind):
    with pytest.raises(ConfigError, match=r"EncoderConfig\.weights.*x\.safetensors"):
        load_encoder(EncoderConfig(kind=kind, weights="x.safetensors"))


def test_an_encoder_can_be_a_static_argument():
    encoder = load_encoder(RANDOM)
    doubled = jax.jit(lambda encoder, image: 2 * encoder.encode(image), static_argnums=0)
    image = pictures(32, 32, 3)
    np.testing.assert_allclose(doubled(encoder, image), 2 * jax.jit(encoder.encode)(image), atol=4e-3)


def test_resnet_has_the_published_names_and_feature_map(random_resnet):
    names = {"/".join(key.key for key in keys) for keys, _ in jax.tree_util.tree_leaves_with_path(random_resnet)}
    block = {f"Conv_{i}/kernel" for i in (0, 1)} | {f"MyGroupNorm_{i}/{p}" for i in (0, 1) for p in ("scale", "bias")}
    shortcut = {"conv_proj/kernel", "norm_proj/scale", "norm_proj/bias"}
    expected = {"conv_init/kernel", "norm_init/scale", "norm_init/bias"}
    expected |= {f"ResNetBlock_{i}/{name}" for i in range(4) for name in block}
    expected |= {f"ResNetBlock_{i}/{name}" for i in (1, 2, 3) for name in shortcut}
    assert names == expected
    assert random_resnet["conv_init"]["kernel"].shape == (7, 7, 3, 64)
    encoder = FrozenEncoder(EncoderKind.RESNET10, "resnet10-test", random_resnet)
    features = jax.jit(encoder.encode)(pictures(2, 1, 64, 70, 3))
    assert features.shape == (2, 1, *encoder.feature_shape(64, 70))
    assert features.dtype == np.float16
    assert np.isfinite(features).all()
