import sys

import numpy as np
import pytest

from serl_core.errors import ConfigError
from serl_core.robots.messages import PictureFormat
from serl_core.robots.pictures import pack, unpack

SMOOTH = np.stack(np.broadcast_arrays(np.arange(24)[:, None], 8 * np.arange(32), 250), axis=-1).astype(np.uint8)


@pytest.mark.parametrize("form", [PictureFormat.RAW, PictureFormat.PNG])
def test_raw_and_png_lose_nothing(form):
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    back = unpack(pack(image, form), form, 24, 32)
    np.testing.assert_array_equal(back, image)
    assert not back.flags.writeable


def test_jpeg_is_smaller_and_nearly_the_same():
    """A swap of red and blue would be off by hundreds."""
    data = pack(SMOOTH, PictureFormat.JPEG)
    assert len(data) < SMOOTH.size / 2
    np.testing.assert_allclose(unpack(data, PictureFormat.JPEG, 24, 32).astype(int), SMOOTH, atol=12)


@pytest.mark.parametrize("form", list(PictureFormat))
@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[:20], lambda data: b"\x00" * len(data) + b"x"])
def test_what_is_no_picture_is_refused(form, spoil):
    with pytest.raises(ValueError, match=r"bytes are no|reshape"):
        unpack(spoil(pack(SMOOTH, form)), form, 24, 32)


@pytest.mark.parametrize("form", list(PictureFormat))
def test_a_picture_of_another_size_is_refused(form):
    with pytest.raises(ValueError, match=r"no .* picture of 32 x 32|reshape"):
        unpack(pack(SMOOTH, form), form, 32, 32)


def test_without_opencv_raw_works_and_jpeg_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    np.testing.assert_array_equal(unpack(pack(SMOOTH, PictureFormat.RAW), PictureFormat.RAW, 24, 32), SMOOTH)
    for call in (
        lambda: pack(SMOOTH, PictureFormat.JPEG),
        lambda: unpack(b"x", PictureFormat.PNG, 24, 32),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'serl\[vision\]'"):
            call()
