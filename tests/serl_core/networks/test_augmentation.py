import jax
import jax.numpy as jnp
import numpy as np

from serl_core.networks.augmentation import random_shift


def test_each_image_is_moved_as_a_whole_by_at_most_the_padding():
    image = np.zeros((40, 24, 24, 3), np.uint8)
    image[:, 12, 12] = (10, 20, 30)
    shifted = np.asarray(random_shift(jnp.asarray(image), key=jax.random.key(0), padding=4))
    assert shifted.shape == image.shape
    assert shifted.dtype == np.uint8
    places = []
    for one in shifted:
        rows, columns, _ = np.nonzero(one)
        assert set(rows) == {rows[0]}
        np.testing.assert_array_equal(one[rows[0], columns[0]], (10, 20, 30))
        places.append((rows[0] - 12, columns[0] - 12))
    assert len(set(places)) > 10
    assert np.abs(places).max() == 4


def test_leading_dims_stay_and_the_edge_is_repeated():
    flat = np.full((2, 3, 16, 16, 3), 7, np.uint8)
    shifted = np.asarray(random_shift(jnp.asarray(flat), key=jax.random.key(1)))
    np.testing.assert_array_equal(shifted, flat)


def test_the_key_decides():
    image = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)
    first, again, other = (np.asarray(random_shift(jnp.asarray(image), key=jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
