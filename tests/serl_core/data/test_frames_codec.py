import struct
import zlib

import numpy as np
import pytest

from serl_core.data.frames import MAX_SIDE, compress, decompress
from serl_core.errors import DataError
from serl_core.image_config import FrameFormat

ROWS, COLUMNS = np.mgrid[0:32, 0:48]
IMAGE = np.stack([3 * ROWS, 4 * COLUMNS, 255 - 2 * ROWS - COLUMNS], axis=-1).astype(np.uint8)
IMAGES = {"wrist": IMAGE, "side": IMAGE[::2, :16].copy()}


def test_png_gives_each_image_back_to_the_bit():
    back = decompress(compress(IMAGES, FrameFormat.PNG))
    assert list(back) == list(IMAGES)
    for name, image in IMAGES.items():
        np.testing.assert_array_equal(back[name], image, strict=True)


def test_jpeg_gives_each_image_back_nearly_and_in_its_colours():
    back = decompress(compress(IMAGES, FrameFormat.JPEG))
    for name, image in IMAGES.items():
        assert np.abs(back[name].astype(int) - image).mean() < 3.0


def test_the_two_formats_are_told_apart_by_their_bytes():
    mixed = {
        "a": compress({"a": IMAGE}, FrameFormat.PNG)["a"],
        "b": compress({"b": IMAGE}, FrameFormat.JPEG)["b"],
    }
    assert {image.shape for image in decompress(mixed).values()} == {IMAGE.shape}


PNG = compress({"x": IMAGE}, FrameFormat.PNG)["x"].tobytes()
JPEG = compress({"x": IMAGE}, FrameFormat.JPEG)["x"].tobytes()


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def huge_png():
    """The header of a picture of 60 000 x 60 000 pixels, with the right checksum."""
    chunk = b"IHDR" + struct.pack(">II", 60_000, 60_000) + PNG[24:29]
    return PNG[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + PNG[33:]


def huge_jpeg():
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">HH", 60_000, 60_000) + JPEG[place + 4 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no whole PNG or JPEG"),
        (b"GIF89a and so on", "no whole PNG or JPEG"),
        (PNG[: len(PNG) // 2], "no whole PNG or JPEG"),
        (JPEG[: len(JPEG) // 2], "no whole PNG or JPEG"),
        (b"\xff\xd8\xff\xd9", "no whole PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82", "corrupt"),
        (flipped(PNG, len(PNG) // 2), "no png picture"),
        (huge_png(), f"1 to {MAX_SIDE} pixels, got 60000 x 60000"),
        (huge_jpeg(), f"1 to {MAX_SIDE} pixels, got 60000 x 60000"),
    ],
    ids=[
        "empty",
        "gif",
        "half a png",
        "half a jpeg",
        "ends only",
        "png of no chunk",
        "bit flip",
        "huge png",
        "huge jpeg",
    ],
)
def test_what_is_no_picture_is_an_error_that_names_the_frame(data, words):
    with pytest.raises(DataError, match=f"'wrist'.*{words}"):
        decompress({"wrist": np.frombuffer(data, np.uint8)})
