import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from serl_core.cli.main import main
from serl_core.data.labelled_frames import LabelledFrames, count_labels, load_folders, save_labelled
from serl_core.testing.fakes import FakeRobot

TASK = """
from dataclasses import replace

from examples.ram_insertion import CONFIG, expert
from serl_core.config import ObservationConfig
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind
from serl_core.envs.task import Task

SIDE = {side}
TASK = Task(
    config=replace(
        CONFIG,
        name="small",
        observation=ObservationConfig(
            cameras=(CameraConfig(name="wrist", height=SIDE, width=SIDE),),
            encoder=EncoderConfig(kind=EncoderKind.RANDOM),
        ),
    ),
    expert=expert,
)
"""
DOWN = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "small_task.py"
    path.write_text(TASK.format(side=32))
    return str(path)


@pytest.fixture
def robot(monkeypatch):
    fake = FakeRobot((0.5, 0.0, 0.12, *DOWN), (0.5, 0.0, 0.058, *DOWN))
    monkeypatch.setattr("serl_core.robots.http_client.HttpRobot", lambda *_, **__: fake)
    return fake


def write_frames(folder, count=10, task="small", side=32, seed=0, crop=""):
    """Write episodes of noise; a success has a bright upper half."""
    for i in range(count):
        random = np.random.default_rng([seed, i])
        success = np.arange(9) >= (6 if i % 3 else 9)
        stack = random.integers(0, 120, (9, side, side, 3), np.uint8)
        stack[success, : side // 2] += 100
        origins = {"wrist": f"wrist (robot){crop}, as {side}x{side}"}
        frames = LabelledFrames(task, {"wrist": stack}, success, np.arange(9), np.zeros((9, 7)), origins=origins)
        save_labelled(folder / f"frames-{i:04d}.safetensors", frames)


def error_of(capsys, *arguments):
    assert main(["classifier", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return [line for line in lines if line.startswith("serl classifier: ")][-1]


def test_frames_are_recorded_from_the_robot_s_cameras(task, robot, tmp_path, capsys):
    out = tmp_path / "frames"
    asked = ["--positives", "5", "--negatives", "20"]
    assert main(["classifier", "record", "--task", task, "--out", str(out), *asked]) == 0
    episodes = load_folders([out])
    positives, negatives = count_labels(episodes)
    assert positives >= 5
    assert negatives >= 20
    assert episodes[0].image_shapes() == {"wrist": (32, 32, 3)}
    assert episodes[0].origins == {"wrist": "wrist (robot), as 32x32"}
    assert f"{positives} positive and {negatives} negative frames in {out}" in capsys.readouterr().out
    assert robot.calls[-1] == "close"


def test_the_truth_labels_no_real_robot(task, robot, tmp_path, capsys):
    health = robot.health()
    robot.health = lambda: type(health)(backend="real", clock="real_time", is_simulated=False)
    assert "use --label key" in error_of(capsys, "record", "--task", task, "--out", tmp_path / "frames")
    assert set(robot.calls) == {"connect", "close"}  # nothing moved


def test_a_person_who_labels_is_told_when_the_arm_moves_and_what_was_typed_before_is_forgotten(
    task, robot, tmp_path, monkeypatch, capsys
):
    """A space typed during the reset labelled the start pose as success."""
    health = robot.health()
    robot.health = lambda: type(health)(backend="real", clock="lockstep", is_simulated=False)
    typed = iter([" "] + [""] * 30 + [" "] * 200)  # the first one while the arm goes to its start
    monkeypatch.setattr("actors.label_key.terminal_keys", lambda: contextlib.nullcontext(lambda: next(typed)))
    monkeypatch.setattr("actors.label_key.REPEAT_S", 0.0)
    monkeypatch.setattr("actors.classifier_data.LET_GO_S", 0.0)
    asked = ["--label", "key", "--positives", "5", "--negatives", "5"]
    assert main(["classifier", "record", "--task", task, "--out", str(tmp_path / "frames"), *asked]) == 0
    (frames,) = load_folders([tmp_path / "frames"])
    assert not frames.is_success[:20].any()
    shown = capsys.readouterr().out
    assert shown.index("Let go") < shown.index("The arm yields")


def test_a_task_without_cameras_is_refused(tmp_path, capsys):
    for command in ("record", "train"):
        more = ["--data", tmp_path] if command == "train" else []
        told = error_of(capsys, command, "--task", "ram_insertion", "--out", tmp_path / "x", *more)
        assert "has no cameras" in told


def test_a_classifier_is_trained_and_scored_on_other_frames(task, tmp_path, capsys):
    write_frames(tmp_path / "data")
    write_frames(tmp_path / "other", seed=1)
    common = ["--task", task, "--data", str(tmp_path / "data")]
    assert main(["classifier", "train", *common, "--out", str(tmp_path / "c"), "--steps", "200"]) == 0
    shown = capsys.readouterr().out
    assert "threshold" in shown
    assert "will refuse it" not in shown
    classifier = tmp_path / "c" / "classifier.safetensors"
    other = ["--task", task, "--data", str(tmp_path / "other"), "--classifier", str(classifier)]
    assert main(["classifier", "eval", *other, "--out", str(tmp_path / "score")]) == 0
    shown = capsys.readouterr().out
    score = json.loads((tmp_path / "score" / "report.json").read_text())
    assert score["single"]["accuracy"]["rate"] > 0.9
    assert score["single"]["accuracy"]["total"] == 90
    assert f"threshold {score['threshold']:.3f}" in shown
    (tmp_path / "small_task.py").write_text(TASK.format(side=48))
    assert "task 'small' has it as (48, 48, 3)" in error_of(capsys, "eval", *other)


def test_a_classifier_that_would_be_refused_says_so_when_it_is_trained(task, tmp_path, capsys, monkeypatch):
    write_frames(tmp_path / "data")
    monkeypatch.setattr("serl_core.agents.classifier_gate.MOST", -1.0)
    given = ["--task", task, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "c"), "--steps", "20"]
    assert main(["classifier", "train", *given]) == 0
    assert "serl actor, record, eval and train will refuse it: false successes in 0 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"side": 48},
            "its image 'wrist' is (48, 48, 3) from wrist (robot), as 48x48; task 'small' has it as (32, 32, 3)",
        ),
        ({"crop": ", 9x9 at 0,0"}, "(32, 32, 3) from wrist (robot), 9x9 at 0,0, as 32x32; task 'small' has it as"),
        ({"task": "other"}, "its frames are of task 'other', not of 'small'"),
    ],
)
def test_frames_of_other_cameras_crops_or_tasks_are_neither_trained_nor_scored_on(
    task, tmp_path, capsys, changes, words, monkeypatch
):
    write_frames(tmp_path / "data", count=1, **changes)
    given = ["--task", task, "--data", tmp_path / "data"]
    assert words in error_of(capsys, "train", *given, "--out", tmp_path / "c")
    assert not (tmp_path / "c").exists()
    facts = SimpleNamespace(facts=SimpleNamespace(image_shapes={"wrist": None}))
    monkeypatch.setattr("serl_core.agents.acting_classifier.load_classifier", lambda *_, **__: facts)
    assert words in error_of(capsys, "eval", *given, "--classifier", tmp_path / "c.safetensors")


def test_frames_are_drawn_and_written_anew_with_corrected_labels(tmp_path, capsys):
    write_frames(tmp_path / "data", count=2)
    assert main(["classifier", "review", str(tmp_path / "data")]) == 0
    sheet = tmp_path / "data" / "contact_sheet.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert f"{sheet}: 18 frames" in capsys.readouterr().out
    labels = tmp_path / "labels.txt"
    labels.write_text("1 success\n2 drop\n18 failure\n")
    corrected = [str(tmp_path / "data"), "--labels", str(labels), "--out", str(tmp_path / "corrected")]
    assert main(["classifier", "review", *corrected]) == 0
    first, second = load_folders([tmp_path / "corrected"])
    np.testing.assert_array_equal(first.step, [0, *range(2, 9)])
    np.testing.assert_array_equal(first.is_success, [True] + [False] * 7)
    np.testing.assert_array_equal(second.is_success, [False] * 6 + [True, True, False])
    assert "needs a new or empty folder" in error_of(capsys, "review", *corrected)
    assert "needs a new or empty folder" in error_of(capsys, "review", tmp_path / "data", "--labels", labels)
