import numpy as np
import pytest

from serl_core.data.label_review import (
    CAPTION_PX,
    COLUMNS,
    GREEN,
    RED,
    TILE_PX,
    Correction,
    contact_sheet,
    correct,
    read_corrections,
)
from serl_core.data.labelled_frames import LabelledFrames
from serl_core.errors import DataError

BORDER = 2


def episode(labels, grey=100, probability=None, names=("wrist",)):
    count = len(labels)
    return LabelledFrames(
        task="ram",
        images={name: np.full((count, 32, 32, 3), grey, np.uint8) for name in names},
        is_success=np.array(labels, bool),
        step=np.arange(count),
        tcp_pose=np.zeros((count, 7)),
        probability=probability,
    )


def test_the_sheet_has_a_tile_per_frame_coloured_by_its_label():
    sheet = contact_sheet([episode([True, False]), episode([False] * COLUMNS, grey=200)])
    tile_h, tile_w = TILE_PX + CAPTION_PX + 2 * BORDER, TILE_PX + 2 * BORDER
    assert sheet.shape == (2 * tile_h, COLUMNS * tile_w, 3)
    right_of_text = tile_w - BORDER - 3
    captions = [tuple(sheet[BORDER + 1, i * tile_w + right_of_text]) for i in range(3)]
    assert captions == [GREEN, RED, RED]
    centres = [sheet[tile_h // 2, i * tile_w + tile_w // 2, 0] for i in range(3)]
    assert centres == [100, 100, 200]
    assert (sheet[tile_h:, 2 * tile_w :] == 255).all()  # no frames any more


def test_tiles_show_all_images_of_a_frame_and_a_short_sheet_is_narrow():
    sheet = contact_sheet([episode([True], names=("side", "wrist"))])
    assert sheet.shape == (TILE_PX + CAPTION_PX + 2 * BORDER, 2 * TILE_PX + 2 * BORDER, 3)


def test_a_tile_shows_its_number_and_probability():
    plain = contact_sheet([episode([True])])
    assert (plain != contact_sheet([episode([True])], first=7)).any()
    assert (plain != contact_sheet([episode([True], probability=np.array([0.9]))])).any()


def test_corrections_are_read_with_comments_and_empty_lines(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("# checked by hand\n\n3 success\n 1  failure # not seated\n12 drop\n")
    assert read_corrections(path) == {3: Correction.SUCCESS, 1: Correction.FAILURE, 12: Correction.DROP}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 success\nx failure", "line 2: needs a number and one of success, failure, drop, got 'x failure'"),
        ("1 yes", "line 1: needs a number"),
        ("1", "line 1: needs a number"),
        ("-1 drop", "line 1: needs a number"),
        ("4 drop\n4 success", "line 2: frame 4 has a correction already"),
    ],
)
def test_a_line_that_is_no_correction_is_named(tmp_path, text, words):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_corrections(tmp_path / "labels.txt")


def test_a_file_of_corrections_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "binary")


def test_corrections_change_the_labels_of_their_frames_only():
    said = {2: Correction.SUCCESS, 3: Correction.FAILURE, 4: Correction.DROP}
    first, second = correct([episode([False, False]), episode([True, True, True])], said)
    np.testing.assert_array_equal(first.is_success, [False, True])
    np.testing.assert_array_equal(second.is_success, [False, True])
    np.testing.assert_array_equal(second.step, [0, 2])


def test_an_episode_whose_frames_are_all_dropped_goes():
    kept, gone = correct([episode([True]), episode([False])], {2: Correction.DROP})
    assert kept is not None
    assert gone is None


def test_a_correction_of_a_frame_that_is_not_there_is_refused():
    for number in (0, 3):
        with pytest.raises(DataError, match=rf"no frames \[{number}\]; the contact sheet has 1 to 2"):
            correct([episode([True, False])], {number: Correction.DROP})
