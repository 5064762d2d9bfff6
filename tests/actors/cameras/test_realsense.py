import contextlib
import itertools
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.cameras import realsense
from actors.cameras.librealsense import librealsense
from actors.cameras.realsense import RealSenseCamera, RealSenseSource
from actors.vision import CameraVision, make_camera
from serl_core.clock import ManualClock
from serl_core.config import ObservationConfig
from serl_core.errors import CameraFault, ConfigError
from serl_core.image_config import CameraConfig, CameraSource, Crop
from serl_core.testing.conformance import check_camera
from tests.actors.cameras.realsense_recording import HEIGHT, HZ, SHIFT, WIDTH, SoftCamera
from tests.actors.cameras.sources import image, until

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "realsense.md"
COUNT = 8  # pictures of the recording
GREEN = 100  # of picture 0; each later one has 4 more


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return SoftCamera(exposure=(1, 10000, 156)).record(tmp_path_factory.mktemp("realsense") / "film.db3", COUNT)


@contextlib.contextmanager
def opened(source):
    try:
        source.open()
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def showing(camera, **options):
    """Let a camera show one picture after the other."""
    is_ending, numbers = threading.Event(), iter(range(1, 10000))

    def show():
        while not is_ending.wait(0.5 / HZ):
            camera.show(1 + next(numbers) % 30, **options)

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        is_ending.set()
        thread.join()


def live(*cameras, serial="42", **options):
    return RealSenseSource(serial, devices=lambda: {c.serial: c.device for c in cameras}, **options)


def number_of(frame):
    """Return which of the recording's pictures a frame is, by its pixels."""
    return (int(frame.image[0, 0, 1]) - GREEN) // 4


def assert_each_is_new(frames):
    """Two in a row differ; a recording begins again after its end, so that others may not."""
    assert all(later.stamp_s != earlier.stamp_s for earlier, later in itertools.pairwise(frames))


def test_a_recording_conforms(recording):
    check_camera(RealSenseCamera("wrist", RealSenseSource("", playback_file=recording)))


def test_a_recordings_pixels_arrive_in_rgb_as_they_were_with_the_cameras_own_time(recording):
    before_s = time.monotonic()
    with opened(RealSenseSource("", playback_file=recording)) as source:
        frames = [source.read() for _ in range(3)]
    for frame in frames:
        number = number_of(frame)
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert (frame.image == (200, GREEN + 4 * number, 30)).all()
        assert frame.stamp_s == pytest.approx(number / HZ, abs=1e-6)
    assert_each_is_new(frames)
    times = [before_s, *(frame.captured_s for frame in frames), time.monotonic()]
    assert times == sorted(times)


def test_a_recording_begins_again_after_its_end(recording):
    with opened(RealSenseSource("", playback_file=recording)) as source:
        numbers = [number_of(source.read()) for _ in range(3 * COUNT)]
    assert any(later < earlier for earlier, later in itertools.pairwise(numbers))


def test_depth_lies_below_the_picture_aligned_to_it_and_of_the_same_moment(recording):
    with opened(RealSenseSource("", playback_file=recording, depth_m=(0.5, 1.5))) as source:
        frames = [source.read() for _ in range(4)]
    for frame in frames:
        assert frame.image.shape == (2 * HEIGHT, WIDTH, 3)
        assert (frame.image[:HEIGHT] == (200, GREEN + 4 * number_of(frame), 30)).all()
        depth = frame.image[HEIGHT:]
        assert (depth[1:-1, SHIFT:] == 128).all()  # half way from 0.5 to 1.5 m: 1 + 254 / 2
        assert (depth[1:-1, : SHIFT - 1] == 0).all()  # what only the colour sensor sees
    assert_each_is_new(frames)


def test_the_policy_gets_a_depth_image_for_each_colour_image(recording):
    config = CameraConfig(
        name="wrist",
        source=CameraSource.REALSENSE,
        height=16,
        width=16,
        capture=(HEIGHT, WIDTH),
        crops=(Crop(name="near", left=16, top=8, width=32, height=32),),
        max_age_s=60.0,
        capture_hz=HZ,
        depth_m=(0.5, 1.5),
        playback_file=recording,
    )
    observation = ObservationConfig(cameras=(config,))
    vision = CameraVision(observation)
    vision.open(None)
    images = vision.look().images
    vision.close()
    assert {name: image.shape for name, image in images.items()} == observation.image_shapes
    assert list(images) == ["near", "near_depth"]
    assert (images["near"][..., (0, 2)] == (200, 30)).all()
    assert (images["near_depth"] == 128).all()


def test_the_config_says_what_is_captured():
    same = {"exposure_us": 5000.0, "depth_m": (0.1, 0.6), "playback_file": "film.db3"}
    config = CameraConfig(
        name="wrist", source=CameraSource.REALSENSE, device="42", capture=(48, 64), capture_hz=60, **same
    )
    now = ManualClock()
    camera = make_camera(config, None, now)
    expected = RealSenseSource("42", size=(48, 64), rate_hz=60, now=now, **same)
    assert type(camera) is RealSenseCamera
    assert vars(camera._source) == vars(expected)


def test_the_example_of_the_page_is_a_camera():
    names = {}
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], names)
    assert type(make_camera(names["WRIST"], None, ManualClock())) is RealSenseCamera


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (480, 640)}, r"no colour pictures of \(480, 640\) at any rate; there are \(48, 64\) at 30 Hz"),
        ({"rate_hz": 60}, r"no colour pictures of any size at 60 Hz; there are .*CameraConfig\.capture"),
        (
            {"exposure_us": 5000.0},
            r"recorded with an exposure of 15600 us, got 5000 us; leave CameraConfig\.exposure_us",
        ),
    ],
)
def test_what_a_recording_does_not_have_is_refused_before_it_is_played(recording, options, words):
    with pytest.raises(ConfigError, match=rf"film\.db3'?: .*{words}"):
        RealSenseCamera("wrist", RealSenseSource("", playback_file=recording, **options)).open()


def test_a_recording_may_be_asked_for_what_it_has(recording):
    options = {"size": (HEIGHT, WIDTH), "rate_hz": HZ, "exposure_us": 15600.0}
    source = RealSenseSource("", playback_file=recording, **options)
    source.check()
    with opened(source):
        source.read()


def test_a_file_that_is_no_recording_is_an_error_at_once(tmp_path):
    (tmp_path / "film.db3").write_text("hello")
    for name, words in (("film.db3", "cannot be played back"), ("none.db3", "no such file")):
        with pytest.raises(ConfigError, match=rf"{name}.*{words}.*playback_file must be a \.db3"):
            RealSenseCamera("wrist", RealSenseSource("", playback_file=str(tmp_path / name))).open()


def test_of_two_cameras_the_serial_number_chooses():
    one, two = SoftCamera("1", has_depth=False), SoftCamera("2", has_depth=False)
    with opened(live(one, two, serial="2")) as source:
        one.show(1)  # goes nowhere: nobody opened it
        two.show(2)
        assert number_of(source.read()) == 2


def test_a_serial_number_that_is_not_there_is_an_error_at_once_with_those_that_are():
    with pytest.raises(ConfigError, match=r"RealSense '3': .*'1' \(Software D400\), '2' \(Software D400\)"):
        RealSenseCamera("wrist", live(SoftCamera("1"), SoftCamera("2"), serial="3")).open()


def test_of_a_task_with_a_serial_number_that_is_not_there_no_camera_stays_open():
    config = CameraConfig(name="wrist", source=CameraSource.REALSENSE, device="no such number")
    vision = CameraVision(ObservationConfig(cameras=(config,)))
    with pytest.raises(ConfigError, match="RealSense 'no such number'"):
        vision.open(None)
    with pytest.raises(CameraFault, match="not open"):
        vision.look()


def test_the_exposure_is_set_in_the_device_and_without_one_it_is_automatic():
    camera, option = SoftCamera(exposure=(1, 10000, 156), has_depth=False), librealsense().option
    with opened(live(camera, exposure_us=5000.0)):
        assert camera.colour.get_option(option.exposure) == 50  # in 0.1 ms
        assert camera.colour.get_option(option.enable_auto_exposure) == 0
    with opened(live(camera)):
        assert camera.colour.get_option(option.enable_auto_exposure) == 1


def test_an_exposure_is_refused_by_a_camera_without_one_before_it_is_started():
    words = r"RealSense '42': it has no exposure that could be set to 5000 us; leave CameraConfig\.exposure_us out"
    with pytest.raises(ConfigError, match=words):
        RealSenseCamera("wrist", live(SoftCamera(), exposure_us=5000.0)).open()


def test_depth_is_refused_by_a_camera_without_it():
    with pytest.raises(ConfigError, match=r"no depth pictures; leave CameraConfig\.depth_m out"):
        RealSenseCamera("wrist", live(SoftCamera(has_depth=False), depth_m=(0.1, 1.0))).open()


def test_a_black_picture_is_told_although_its_depth_is_not_black():
    camera = SoftCamera()
    with opened(live(camera, depth_m=(0.5, 1.5))) as source, showing(camera, is_black=True):
        assert source.read().image.shape == (HEIGHT, WIDTH, 3)
        assert source.read().image.max() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "no colour pictures for"), ({"depth_m": (0.5, 1.5)}, "no colour pictures with their depth")],
)
def test_a_camera_without_what_is_asked_for_is_a_fault_within_the_wait(options, words, monkeypatch):
    monkeypatch.setattr(realsense, "WAIT_S", 0.1)
    camera = SoftCamera()
    with (
        opened(live(camera, **options)) as source,
        showing(camera, with_depth=False) if options else contextlib.nullcontext(),
        pytest.raises(CameraFault, match=f"RealSense '42': it gives {words}.*unplugged"),
    ):
        source.read()


class Stream:
    """A pipeline that gives listed times of colour and depth, and then nothing."""

    def __init__(self, pairs):
        self._pairs = list(pairs)

    def try_wait_for_frames(self, wait_ms):
        if not self._pairs:
            return False, None
        colour_ms, depth_ms = self._pairs.pop(0)
        return True, SimpleNamespace(
            get_color_frame=lambda: self._frame(colour_ms), get_depth_frame=lambda: self._frame(depth_ms)
        )

    def _frame(self, stamp_ms):
        return None if stamp_ms is None else SimpleNamespace(timestamp=stamp_ms)

    def stop(self):
        pass


@pytest.mark.parametrize(
    ("has_depth", "pairs", "expected_s"),
    [
        (False, [(100.0, None), (100.0, 133.0), (133.0, 133.0)], [0.1, 0.133]),
        (
            True,
            [(100.0, 67.0), (100.0, 100.0), (100.0, 133.0), (133.0, 141.0), (167.0, None), (None, 200.0)],
            [0.1, 0.133],
        ),
        (True, [(100.0, 124.9), (133.0, 158.1)], [0.1]),
    ],
    ids=["colour alone", "pairs", "three quarters of a period"],
)
def test_only_new_colour_with_the_depth_of_its_moment_is_a_frame(has_depth, pairs, expected_s, monkeypatch):
    """librealsense joins the newest of both: the same colour comes twice, with the depth before and its own."""
    monkeypatch.setattr(realsense, "WAIT_S", 0.1)
    monkeypatch.setattr(RealSenseSource, "_image", lambda self, frames: image())
    source = live(SoftCamera(), depth_m=(0.5, 1.5) if has_depth else None)
    with opened(source):
        source._pipeline.stop()
        source._pipeline = Stream(pairs)
        stamps = [source.read().stamp_s for _ in expected_s]
        with pytest.raises(CameraFault):
            source.read()
    assert stamps == pytest.approx(expected_s)


def test_a_camera_that_is_lost_is_told_and_opened_again_when_it_is_back(monkeypatch):
    monkeypatch.setattr(realsense, "WAIT_S", 0.1)
    first, second = SoftCamera(has_depth=False), SoftCamera(has_depth=False)
    there = {"42": first.device}
    camera = RealSenseCamera("wrist", RealSenseSource("42", devices=lambda: there))
    with contextlib.closing(camera):
        camera.open()
        with showing(first):
            until(camera.latest)
        lost = camera.latest()
        there.clear()
        until(lambda: "no RealSense camera is there" in (camera.problem() or ""))
        assert camera.latest().stamp_s >= lost.stamp_s  # the newest good one stands
        there["42"] = second.device
        with showing(second):
            until(lambda: camera.problem() is None)
            newest = camera.latest()
            until(lambda: camera.latest() is not newest)


def test_a_wait_for_a_picture_lets_other_threads_run():
    """A camera that gives nothing would otherwise stand in the way of the control loop."""
    ended = []

    def wait():
        with pytest.raises(CameraFault):
            source.read()
        ended.append(True)

    beats = 0
    with opened(live(SoftCamera())) as source:
        thread = threading.Thread(target=wait)
        thread.start()
        while thread.is_alive():
            time.sleep(0.001)
            beats += 1
    assert ended
    assert beats > 20  # of a thousand, on a machine that does nothing else


def test_closing_is_safe_twice_and_before_opening():
    source = live(SoftCamera())
    source.close()
    source.open()
    source.close()
    source.close()
