"""`serl classifier record` by a person with a SpaceMouse, which labels, moves the arm, or both."""

import threading
import time

import msgspec
import numpy as np
import pytest

from serl_core.cli.main import main
from serl_core.data.labelled_frames import count_labels, load_folders
from serl_core.testing.fakes import FakeRobot
from tests.actors.teleop.fake_hidapi import ALL_UP, COMPACT_AT_REST, COMPACT_DOWN, RIGHT_DOWN, FakeHidapi

TASK = """
from dataclasses import replace

from examples.ram_insertion import CONFIG
from serl_core.config import ObservationConfig
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind
from serl_core.envs.task import Task

CAMERAS = (CameraConfig(name="wrist", height=32, width=32),)
OBSERVATION = ObservationConfig(cameras=CAMERAS, encoder=EncoderConfig(kind=EncoderKind.RANDOM))
TASK = Task(config=replace(CONFIG, name="small", observation=OBSERVATION))
"""
PATH = "/dev/hidraw1"
DOWN = (1.0, 0.0, 0.0, 0.0)


class RealArm(FakeRobot):
    """An arm that is not simulated, and takes its time."""

    def health(self):
        return msgspec.structs.replace(super().health(), backend="franky", is_simulated=False)

    def step(self, *args, **options):
        time.sleep(0.01)
        return super().step(*args, **options)


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "small_task.py"
    path.write_text(TASK)
    return str(path)


@pytest.fixture
def arm(monkeypatch):
    arm = RealArm((0.5, 0.0, 0.12, *DOWN), (0.5, 0.0, 0.058, *DOWN))
    monkeypatch.setattr("serl_core.robots.http_client.HttpRobot", lambda *_, **__: arm)
    monkeypatch.setattr("actors.classifier_data.LET_GO_S", 0.0)
    return arm


@pytest.fixture
def hidapi(monkeypatch):
    fake = FakeHidapi()
    monkeypatch.setattr("easyhid.easyhid.hidapi", fake)
    return fake


class Person(threading.Thread):
    """Pushes the puck down all the time, and holds the right button in steps 40 to 70 of each episode."""

    def __init__(self, arm, hidapi):
        super().__init__()
        self._arm, self._hidapi = arm, hidapi
        self._is_over = threading.Event()

    def run(self):
        is_held = False
        while not self._is_over.wait(0.01):
            steps = self._arm.calls.count("step")
            self._hidapi.send(PATH, *(COMPACT_AT_REST if steps < 5 else COMPACT_DOWN))
            if is_held != (40 <= steps % 100 < 70):
                is_held = not is_held
                self._hidapi.send(PATH, *(RIGHT_DOWN if is_held else ALL_UP))

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self._is_over.set()
        self.join()


def record(task, out, *options):
    asked = ["--positives", "5", "--negatives", "5", *options]
    return main(["classifier", "record", "--task", task, "--out", str(out), *asked])


def test_a_person_labels_with_the_button_and_moves_the_arm_with_the_puck(task, arm, hidapi, tmp_path, capsys):
    hidapi.plug(PATH)
    with Person(arm, hidapi):
        assert record(task, tmp_path / "frames", "--label", "button", "--teleop", "spacemouse") == 0
    episodes = load_folders([tmp_path / "frames"])
    assert min(count_labels(episodes)) >= 5
    frames = episodes[0]
    assert np.ptp(frames.tcp_pose[:, 2]) > 0.005  # moved down
    assert not frames.is_success[frames.step < 30].any()
    assert "hold the SpaceMouse's button while the task is done" in capsys.readouterr().out
    assert arm.calls[-1] == "close"


def test_a_person_labels_with_the_button_and_moves_the_arm_by_hand(task, arm, hidapi, tmp_path):
    hidapi.plug(PATH)
    with Person(arm, hidapi):
        assert record(task, tmp_path / "frames", "--label", "button") == 0
    episodes = load_folders([tmp_path / "frames"])
    assert min(count_labels(episodes)) >= 5
    assert max(np.ptp(frames.tcp_pose[:, 2]) for frames in episodes) < 1e-6  # the puck moves nothing


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--label", "button"], "none is connected"),
        (["--teleop", "spacemouse", "--label", "truth"], "none is connected"),
        (["--label", "button", "--spacemouse.devices", "S1", "S2"], "one arm is recorded here"),
    ],
)
def test_what_cannot_be_leaves_the_arm_untouched(options, told, task, arm, hidapi, tmp_path, capsys):
    assert record(task, tmp_path / "frames", *options) == 2
    assert told in capsys.readouterr().err
    assert arm.calls == []


def test_a_button_that_the_device_lacks_is_named(task, arm, hidapi, tmp_path, capsys):
    hidapi.plug(PATH)
    assert record(task, tmp_path / "frames", "--label", "button", "--label-buttons", "TOP") == 2
    assert "no button 'TOP'; its buttons are LEFT, RIGHT" in capsys.readouterr().err
    assert arm.calls == []
