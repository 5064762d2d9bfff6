import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cameras.depth import depth_picture, stack, unstack


@pytest.mark.parametrize(("depth_m", "grey"), [(0.0, 0), (0.05, 1), (0.1, 1), (0.35, 128), (0.6, 255), (9.0, 255)])
def test_grey_grows_with_distance_and_is_0_only_where_it_is_unknown(depth_m, grey):
    picture = depth_picture(np.full((2, 3), depth_m, np.float32), 0.1, 0.6)
    assert (picture.dtype, picture.shape) == (np.uint8, (2, 3, 3))
    assert (picture == grey).all()


@given(st.floats(0.1, 0.6))
def test_the_distance_can_be_read_back_to_half_a_step(depth_m):
    grey = float(depth_picture(np.array([[depth_m]]), 0.1, 0.6)[0, 0, 0])
    assert abs(0.1 + (grey - 1.0) / 254.0 * 0.5 - depth_m) <= 0.5 / 254.0 / 2.0 + 1e-9


def test_a_frame_gives_back_what_it_was_made_of():
    picture, depth = np.full((4, 6, 3), 7, np.uint8), np.full((4, 6, 3), 9, np.uint8)
    for made, given_ in zip(unstack(stack(picture, depth)), (picture, depth), strict=True):
        np.testing.assert_array_equal(made, given_)
