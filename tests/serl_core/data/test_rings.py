import numpy as np
import pytest

from serl_core.data.rings import copy_large_rows, copy_rows

RING = np.arange(7 * 6, dtype=np.float16).reshape(7, 2, 3)


@pytest.mark.parametrize("copy", [copy_rows, copy_large_rows])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 3, 6, 7], [0, 2, 4, 7], [7, 6, 1, 0], [5]])
def test_rows_come_where_they_belong_and_the_others_stay(copy, rows):
    slots = np.array([6, 0, 3, 3])[: len(rows)]
    batch = np.full((2, 4, 2, 3), -1, np.float16)
    copy(RING, slots, batch, np.array(rows))
    expected = np.full((8, 2, 3), -1, np.float16)
    for row, slot in zip(rows, slots, strict=True):
        expected[row] = RING[slot]
    np.testing.assert_array_equal(batch.reshape(8, 2, 3), expected)
