import logging
from contextlib import closing, contextmanager

import numpy as np
import pytest

from actors.cameras import threaded
from actors.cameras.interface import Frame, flaw
from actors.cameras.threaded import FLAWED_S, CameraThread, is_repeat
from serl_core.clock import ManualClock
from serl_core.errors import CameraFault
from tests.actors.cameras.sources import ListedSource, image, until


@contextmanager
def running(source, **options):
    camera = CameraThread("wrist", source, **options)
    with closing(camera):
        camera.open()
        yield camera
        source.release()


def has(camera, captured_s):
    return camera.latest() is not None and camera.latest().captured_s == captured_s


def test_the_newest_frame_is_kept_with_its_time():
    source = ListedSource()
    with running(source) as camera:
        source.give(Frame(image(100), 1.0), Frame(image(101), 2.0))
        until(lambda: has(camera, 2.0))
        np.testing.assert_array_equal(camera.latest().image, image(101))
        assert camera.problem() is None


def test_nobody_can_write_into_the_frame_that_all_share():
    source = ListedSource()
    with running(source) as camera:
        source.give(Frame(image(), 1.0))
        until(camera.latest)
        with pytest.raises(ValueError, match="read-only"):
            camera.latest().image[0] = 0


def test_before_the_first_frame_there_is_none_and_a_reason():
    with running(ListedSource()) as camera:
        assert camera.latest() is None
        assert "no picture yet" in camera.problem()


@pytest.mark.parametrize("error", [CameraFault("unplugged"), OSError("unplugged"), ZeroDivisionError("unplugged")])
def test_a_device_that_fails_in_any_way_is_opened_again(error):
    source, pauses = ListedSource(), []
    with running(source, wait=pauses.append) as camera:
        source.give(Frame(image(100), 1.0), error)
        until(lambda: source.opens == 2)
        assert has(camera, 1.0)
        assert camera.problem() == "unplugged"
        source.give(Frame(image(101), 2.0))
        until(lambda: has(camera, 2.0) and camera.problem() is None)
        assert source.closes == 1
        assert pauses == [0.2]


def test_an_error_without_words_is_told_by_its_kind():
    source = ListedSource()
    with running(source, wait=lambda _: False) as camera:
        source.give(ZeroDivisionError())
        until(lambda: camera.problem() == "ZeroDivisionError")


def test_the_pause_before_opening_again_doubles_up_to_5_s_and_starts_over_after_a_frame():
    source, pauses = ListedSource(), []
    source.refusals = [CameraFault("not there")] * 7
    with running(source, wait=pauses.append) as camera:
        source.give(Frame(image(), 1.0), CameraFault("gone"))
        until(lambda: source.opens == 9)
        assert has(camera, 1.0)
    assert pauses[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.2]


def test_a_loss_is_logged_once_and_so_is_its_end(caplog):
    source = ListedSource()
    source.refusals = [CameraFault("not there")] * 5
    with caplog.at_level(logging.WARNING), running(source, wait=lambda _: False) as camera:
        source.give(Frame(image(100), 1.0), Frame(image(101), 2.0))
        until(lambda: has(camera, 2.0))
        messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "camera wrist: not there" in messages[0]
    assert "camera wrist: back after" in messages[1]


def test_a_picture_that_repeats_stands_with_its_first_time_until_it_changes():
    source = ListedSource()
    with running(source) as camera:
        source.give(Frame(image(100), 1.0), Frame(image(100), 2.0))
        until(lambda: camera.problem() == "it gives the same picture again and again")
        assert has(camera, 1.0)
        source.give(Frame(image(101), 3.0))
        until(lambda: has(camera, 3.0) and camera.problem() is None)


def test_a_black_picture_is_none():
    source = ListedSource()
    with running(source) as camera:
        source.give(Frame(image(100), 1.0), Frame(image(2), 2.0))
        until(lambda: "black" in (camera.problem() or ""))
        assert has(camera, 1.0)
        assert source.opens == 1


class CountedSource(ListedSource):
    """Knows what has become of what it gave."""

    reads = 0  # begun

    def read(self):
        self.reads += 1
        return super().read()

    def feed(self, frame):
        """Give one frame and wait until it is dealt with."""
        until(lambda: self.reads)
        reads = self.reads
        self.give(frame)
        until(lambda: self.reads > reads)


@pytest.mark.parametrize("is_black", [False, True], ids=["frozen", "black"])
def test_a_device_without_a_good_picture_for_2_s_is_opened_anew_until_it_has_one(is_black, caplog):
    """A frozen or black camera stayed so until somebody started the program again."""
    source, pauses, clock = CountedSource(), [], ManualClock()
    words = "black" if is_black else "again and again"

    def flawed():
        source.feed(Frame(image(2) if is_black else camera.latest().image, 9.0))
        assert words in camera.problem()
        return source.opens

    with caplog.at_level(logging.WARNING), running(source, wait=pauses.append, now=clock) as camera:
        source.feed(Frame(image(100), 1.0))
        clock.advance(FLAWED_S)
        assert flawed() == 1
        source.feed(Frame(image(101), 2.0))
        clock.advance(FLAWED_S)
        assert flawed() == 1  # counted from the newest good one
        clock.advance(0.1)
        assert [flawed(), flawed()] == [2, 2]  # the second comes from the device just opened
        clock.advance(FLAWED_S + 0.1)
        assert flawed() == 3
        assert pauses == [0.2, 0.4]
        assert [words in record.getMessage() for record in caplog.records] == [True]
        source.feed(Frame(image(102), 3.0))
        assert has(camera, 3.0)
        assert "back after 2.1 s" in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Frame(image(1), 0.0), Frame(image(1), 1.0), True),
        (Frame(image(1), 0.0), Frame(image(2), 1.0), False),
        (Frame(image(1), 0.0), Frame(image(1, (6, 4, 3)), 1.0), False),
        (Frame(image(1), 0.0, 5.0), Frame(image(1), 1.0, 6.0), False),
        (Frame(image(1), 0.0, 5.0), Frame(image(2), 1.0, 5.0), True),
    ],
    ids=["same bytes", "other bytes", "other shape", "newer stamp", "same stamp"],
)
def test_of_a_simulator_a_stamp_tells_a_repeat_and_without_one_the_bytes_do(before, after, expected):
    assert is_repeat(before, after, has_noise=False) is expected


def test_of_a_sensor_the_bytes_tell_a_repeat_also_under_a_new_stamp():
    """A driver that hangs may go on stamping the last picture anew."""
    assert is_repeat(Frame(image(), 1.0, 7.0), Frame(image(), 2.0, 8.0), has_noise=True)
    assert is_repeat(Frame(image(100), 1.0, 7.0), Frame(image(101), 2.0, 7.0), has_noise=True)
    assert not is_repeat(Frame(image(100), 1.0, 7.0), Frame(image(101), 2.0, 8.0), has_noise=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "NoneType"),
        (image().astype(np.float32), "float32"),
        (image(shape=(4, 6)), "(4, 6) instead of"),
        (image(shape=(4, 6, 4)), "(4, 6, 4) instead of"),
        (image(shape=(0, 6, 3)), "0 x 6 pixels"),
        (image(2), "black"),
    ],
    ids=["none", "float", "grey", "four channels", "empty", "black"],
)
def test_what_cannot_be_used_as_a_picture_is_told(wrong, words):
    assert words in flaw(wrong)


def test_one_bright_pixel_is_a_picture():
    picture = image(0)
    picture[1, 2, 0] = 3
    assert flaw(picture) is None


def test_closing_ends_the_thread_and_opening_begins_without_old_frames():
    source = ListedSource()
    with running(source) as camera:
        source.give(Frame(image(), 1.0))
        until(camera.latest)
        source.release()
        camera.close()
        assert source.closes == source.opens
        camera.close()
        camera.open()
        assert camera.latest() is None


def test_a_device_that_cannot_even_be_closed_is_opened_again():
    source = ListedSource()
    source.close = lambda: 1 / 0
    with running(source, wait=lambda _: False) as camera:
        source.give(OSError("gone"), Frame(image(), 1.0))
        until(lambda: has(camera, 1.0))


def test_closing_does_not_wait_for_a_pause(monkeypatch):
    monkeypatch.setattr(threaded, "FIRST_PAUSE_S", 20.0)
    source = ListedSource()
    source.refusals = [OSError("not there")]
    with running(source) as camera:
        until(lambda: camera.problem() == "not there")
        camera.close()
        assert source.opens == 1


def test_a_device_that_hangs_holds_up_nobody_and_is_not_opened_twice(monkeypatch):
    monkeypatch.setattr(threaded, "CLOSE_S", 0.01)
    source = ListedSource()
    with running(source) as camera:
        camera.close()
        with pytest.raises(CameraFault, match=r"'wrist'.*still open"):
            camera.open()
