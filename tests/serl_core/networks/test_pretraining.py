import jax
import numpy as np

from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks import small_cnn
from serl_core.networks.frozen import load_encoder
from serl_core.networks.pretraining import LabelledImages, _augment, pretrain, probe

STEPS = 40


def dots(count: int, seed: int) -> LabelledImages:
    """Two cameras see a bright dot, whose place is asked for."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (2, count, 32, 32, 3), dtype=np.uint8)
    at = random.integers(6, 26, (count, 2))
    for i, (row, column) in enumerate(at):
        images[:, i, row - 3 : row + 3, column - 3 : column + 3] = 250
    return LabelledImages(images, ((at - 16) / 10).astype(np.float32))


def test_training_lowers_the_loss_and_repeats_itself():
    data = dots(60, 0)
    losses: list[float] = []
    first = pretrain(data, STEPS, 1, lambda step, loss: losses.append(loss))
    second = pretrain(data, STEPS, 1)
    other = pretrain(data, 1, 2)
    assert len(losses) == STEPS
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.array_equal(first["conv_0"]["kernel"], other["conv_0"]["kernel"])
    assert jax.tree.map(np.shape, first) == jax.tree.map(np.shape, small_cnn.shapes())


def test_a_probe_tells_features_that_know_the_answer_from_those_that_do_not():
    train, held_out = dots(120, 0), dots(30, 1)
    knows = probe(load_encoder(EncoderConfig(kind=EncoderKind.RANDOM)).encode, train, held_out, 0, 150)
    blind = probe(
        lambda images: np.zeros((1, 2, 2, 4), np.float16) + 0 * images[:, :1, :1, :1], train, held_out, 0, 150
    )
    assert knows.shape == (2, 30, 2)
    assert np.abs(knows).mean() < 0.6 * np.abs(blind).mean()


def test_augmentation_keeps_a_picture_in_range_and_moves_it_by_a_few_pixels():
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[:, 8, 8] = 255
    varied = np.asarray(_augment(jax.numpy.asarray(images), key=jax.random.key(0)))
    assert varied.min() >= 0.0
    assert varied.max() <= 255.0
    rows, columns = np.unravel_index(varied[..., 0].reshape(40, -1).argmax(1), (16, 16))
    assert {*rows} == {*columns} == {7, 8, 9}
