import itertools
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from actors.cameras.interface import Frame
from serl_core.testing import conformance
from serl_core.testing.conformance import check_camera
from tests.actors.cameras.sources import image

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "new-camera.md"


class Device:
    """What the page's example drives."""

    def __init__(self, serial):
        self._count = 0

    def start(self):
        pass

    def wait_for_picture(self, timeout_s):
        time.sleep(0.001)
        self._count += 1
        return image(50 + self._count % 200)

    def stop(self):
        pass


def test_the_example_of_the_page_conforms(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_driver", SimpleNamespace(Device=Device))
    names = {}
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], names)
    check_camera(names["my_camera"]("wrist", "1234"))


def shared(picture=None, captured_s=None):
    picture = image() if picture is None else picture
    picture.flags.writeable = False
    return Frame(picture, time.monotonic() if captured_s is None else captured_s)


class Camera:
    """Gives what `make` makes, anew each time."""

    def __init__(self, make):
        self._make = make

    def open(self):
        pass

    def close(self):
        pass

    def latest(self):
        return self._make()

    def problem(self):
        return "unplugged"


def test_a_camera_that_keeps_the_rules_conforms():
    check_camera(Camera(shared))


BEFORE = itertools.count()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: shared(captured_s=1.0), "s old"),
        (lambda: shared(captured_s=time.monotonic() + 60.0), "captured_s is on time.monotonic"),
        (lambda: shared(captured_s=time.monotonic() - next(BEFORE)), "came after"),
        (lambda: shared(image(1.0).astype(np.float32)), "float32"),
        (lambda: shared(image(shape=(4, 6))), r"\(4, 6\)"),
        (lambda: shared(image(shape=(4, 6, 4))), r"\(4, 6, 4\)"),
        (lambda: shared(image(0)), "black"),
        (lambda: Frame(image(), time.monotonic()), "written to"),
        (lambda: Frame([[0]], time.monotonic()), "list"),
    ],
    ids=["old", "future", "back", "float", "grey", "rgba", "black", "writeable", "list"],
)
def test_a_camera_that_breaks_a_rule_is_told_which(make, words):
    with pytest.raises(AssertionError, match=words):
        check_camera(Camera(make))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, "in vain until a new frame comes; got unplugged"),
        (lambda: time.sleep(0.12), "blocks"),
    ],
    ids=["none", "blocking"],
)
def test_a_camera_that_does_not_go_on_is_told_what_was_waited_for(make, words, monkeypatch):
    monkeypatch.setattr(conformance, "PATIENCE_S", 0.1)
    with pytest.raises(AssertionError, match=words):
        check_camera(Camera(make))


def test_a_camera_that_gives_one_frame_for_ever_is_told_so(monkeypatch):
    monkeypatch.setattr(conformance, "PATIENCE_S", 0.1)
    frame = shared()
    with pytest.raises(AssertionError, match="in vain"):
        check_camera(Camera(lambda: frame))
