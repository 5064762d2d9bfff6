import numpy as np
import pytest

from actors.video_frame import (
    AMBER,
    BACKGROUND,
    BLUE,
    GREEN,
    MAX_WIDTH_PX,
    RED,
    TILE_PX,
    action_names,
    draw,
)
from serl_core.config import ActionConfig
from serl_core.types import ActionBlock, ActionSpec
from tests.actors.blank_frame import FRAME

ORANGE = (250, 130, 10)
CYAN = (10, 220, 230)


def filled(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def where(picture, colour):
    """Return the rows and columns (first, last) of the pixels of a colour; None without any."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None


def count(picture, colour):
    return int((picture == colour).all(axis=-1).sum())


def fill_px(colour, **changes):
    """Return how wide the bars of a colour are, in pixels."""
    found = where(draw(FRAME._replace(**changes)), colour)
    return 0 if found is None else found[3] - found[2] + 1


def test_the_images_stand_side_by_side_at_one_height():
    images = {"wrist": filled(128, 128, ORANGE), "side": filled(480, 640, CYAN)}
    picture = draw(FRAME._replace(images=images))
    top, bottom, left, right = where(picture, ORANGE)
    assert (bottom - top + 1, right - left + 1) == (TILE_PX, TILE_PX)
    top_2, bottom_2, left_2, right_2 = where(picture, CYAN)
    assert (top_2, bottom_2) == (top, bottom)
    assert left_2 > right + 1
    assert right_2 - left_2 + 1 == pytest.approx(TILE_PX * 640 / 480, abs=1)


def test_images_that_do_not_fit_beside_each_other_go_into_more_rows():
    images = {f"camera_{i}": filled(64, 64, ORANGE) for i in range(5)} | {"last": filled(64, 64, CYAN)}
    picture = draw(FRAME._replace(images=images))
    assert picture.shape[1] <= MAX_WIDTH_PX
    assert where(picture, CYAN)[0] > where(picture, ORANGE)[0] + TILE_PX
    assert count(picture, ORANGE) == 5 * TILE_PX**2


def test_a_very_wide_image_keeps_its_shape():
    top, bottom, left, right = where(draw(FRAME._replace(images={"strip": filled(100, 2000, ORANGE)})), ORANGE)
    assert (right - left + 1) / (bottom - top + 1) == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("shape", [(128, 128), (1024, 16), (16, 1024), (480, 641), (97, 211)])
@pytest.mark.parametrize("action_size", [1, 7, 14])
def test_the_sides_are_even_whatever_is_in_it(shape, action_size):
    images = {"wrist": filled(*shape, ORANGE)}
    picture = draw(FRAME._replace(images=images, action=np.zeros(action_size, np.float32)))
    assert picture.dtype == np.uint8
    assert [side % 2 for side in picture.shape] == [0, 0, 1]


def test_the_size_depends_on_nothing_that_changes_in_a_trial():
    changed = FRAME._replace(
        action=np.full(6, 3.0, np.float32),
        force_n=np.full(3, 1e9),
        torque_nm=np.full(3, np.nan),
        success_probability=0.4,
        success_threshold=0.5,
        is_intervention=True,
        step=123456789,
        caption="long " * 300,
    )
    assert draw(changed).shape == draw(FRAME).shape


def test_a_frame_is_drawn_the_same_each_time_and_is_not_edited():
    frame = FRAME._replace(images={"wrist": filled(64, 64, ORANGE)}, is_intervention=True)
    first = draw(frame)
    np.testing.assert_array_equal(first, draw(frame))
    assert (frame.images["wrist"] == ORANGE).all()


def test_a_bar_is_as_long_as_its_number_and_on_its_side_of_zero():
    ups, downs = np.zeros((2, 6), np.float32)
    ups[1], downs[1] = 0.8, -0.8
    up = where(draw(FRAME._replace(action=ups)), BLUE)
    down = where(draw(FRAME._replace(action=downs)), BLUE)
    assert down[3] < up[2]
    assert fill_px(BLUE, action=ups / 2) == pytest.approx(fill_px(BLUE, action=ups) / 2, abs=2)
    assert fill_px(BLUE) == 0


def test_each_number_has_its_own_bar():
    action = np.eye(6, dtype=np.float32)
    rows = [where(draw(FRAME._replace(action=one)), BLUE)[0] for one in action]
    rows += [
        where(draw(FRAME._replace(action=np.zeros(0, np.float32), force_n=one)), BLUE)[0] for one in 20 * np.eye(3)
    ]
    assert np.diff(rows[:6]).min() > 0
    assert np.diff(rows[6:]).min() > 0


def test_force_and_torque_have_scales_of_their_own():
    assert fill_px(BLUE, force_n=[0.0, 25.0, 0.0]) == fill_px(BLUE, torque_nm=[0.0, 2.5, 0.0])


def test_a_number_beyond_the_scale_fills_its_bar_in_amber():
    assert fill_px(AMBER, force_n=[0.0, 0.0, -300.0]) == pytest.approx(fill_px(BLUE, force_n=[0.0, 0.0, -50.0]), abs=1)
    assert fill_px(AMBER, force_n=[0.0, 0.0, -50.0]) == 0


def test_a_number_that_is_none_has_no_bar():
    assert fill_px(BLUE, force_n=[np.nan, 0.0, 0.0]) == fill_px(AMBER, force_n=[np.nan, 0.0, 0.0]) == 0


def test_an_intervention_has_a_red_border_and_says_so_and_its_action_is_red():
    action = np.full(6, 0.5, np.float32)
    policy, human = (draw(FRAME._replace(action=action, is_intervention=is_human)) for is_human in (False, True))
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert tuple(human[corner]) == RED
        assert tuple(policy[corner]) == BACKGROUND
    assert count(policy, RED) == 0
    assert count(human, BLUE) == 0
    inside = human[8:-8, 8:-8]
    assert count(inside, RED) > count(policy, BLUE) > 0  # the bars, and the badge


@pytest.mark.parametrize(("probability", "colour"), [(0.2, BLUE), (0.75, GREEN), (1.0, GREEN)])
def test_the_success_probability_turns_green_at_its_threshold(probability, colour):
    full = fill_px(GREEN, success_probability=1.0, success_threshold=0.0)
    width = fill_px(colour, success_probability=probability, success_threshold=0.75)
    assert width == pytest.approx(full * probability, abs=2)
    other = GREEN if colour is BLUE else BLUE
    assert fill_px(other, success_probability=probability, success_threshold=0.75) == 0


def test_the_threshold_is_a_line_at_its_place():
    def picture(threshold):
        return draw(FRAME._replace(success_probability=0.0, success_threshold=threshold)).astype(int)

    def line(threshold):
        without = draw(FRAME._replace(success_probability=0.0)).astype(int)
        differs = (picture(threshold) != without).any(axis=-1)
        first = np.flatnonzero(differs.any(axis=1))[0]  # the line stands above its label
        return np.flatnonzero(differs[first]).mean()

    assert line(0.5) - line(0.2) == pytest.approx(3 * (line(0.6) - line(0.5)), abs=2)
    assert line(0.6) > line(0.5)


def test_a_classifier_without_a_threshold_has_a_blue_bar():
    assert fill_px(BLUE, success_probability=1.0) > 400
    assert fill_px(GREEN, success_probability=1.0) == 0


@pytest.mark.parametrize("change", [{"step": 8}, {"caption": "trial 2 of 2"}, {"action_names": tuple("abcdef")}])
def test_step_caption_and_names_are_written(change):
    assert (draw(FRAME._replace(**change)) != draw(FRAME)).any()


def test_a_long_caption_is_cut_before_the_step():
    words = "a long caption " * 20
    short, long = draw(FRAME._replace(caption="a")), draw(FRAME._replace(caption=words))
    np.testing.assert_array_equal(short[:, -70:], long[:, -70:])
    np.testing.assert_array_equal(long, draw(FRAME._replace(caption=words + "and more")))


def test_long_names_leave_room_for_the_bars():
    names = ("a_block_with_a_name_that_is_much_too_long",) * 6
    assert fill_px(BLUE, action=np.ones(6, np.float32), action_names=names) > 40


def test_names_of_another_number_are_refused():
    with pytest.raises(ValueError, match="zip"):
        draw(FRAME._replace(action_names=("x", "y")))


def test_an_action_has_names_from_its_spec():
    assert action_names(ActionConfig(has_gripper=True).spec) == ("x", "y", "z", "rx", "ry", "rz", "gripper")
    arms = ActionSpec((ActionBlock("left/twist", 6), ActionBlock("right/gripper", 1), ActionBlock("hand", 2)))
    assert action_names(arms)[:2] == ("left x", "left y")
    assert action_names(arms)[5:] == ("left rz", "right gripper", "hand 0", "hand 1")
