import os
import subprocess
import sys
from pathlib import Path

import pytest

from serl_core.cli.train import TrainArgs, run_train, train
from serl_core.data.episode_file import episode_paths, load_episode, load_header
from serl_core.errors import ConfigError
from serl_core.networks.weights import load_policy

SEEN = """
import dataclasses

from examples.ram_insertion import CONFIG, expert
from serl_core.config import ObservationConfig
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind, ImageMode
from serl_core.envs.task import Task

OBSERVATION = ObservationConfig(
    cameras=(CameraConfig(name="wrist", height=32, width=32),),
    encoder=EncoderConfig(kind=EncoderKind.RANDOM, mode=ImageMode.{mode}, copies=2),
)
TASK = Task(config=dataclasses.replace(CONFIG, name="seen", observation=OBSERVATION), expert=expert)
"""


def seen(folder: Path, mode: str) -> str:
    """Write a task with a small camera; return what names it."""
    path = folder / f"seen_{mode.lower()}.py"
    path.write_text(SEEN.format(mode=mode))
    return str(path)


def args(run: Path, seed: int = 3, **changes: object) -> TrainArgs:
    options = {"sync": True, "seed": seed, "steps": 130, "demonstrations": 1, "trials": 0} | changes
    return TrainArgs(run=run, **options)  # type: ignore[arg-type]


WITHOUT_OPENGL = """
from pathlib import Path
from examples.ram_insertion import TASK
from serl_core.cli.train import TrainArgs, open_env
from serl_core.networks.perception import perception_for

with open_env(TASK, perception_for(TASK.config), TrainArgs(run=Path("unused")), 0) as env:
    print(env.reset()[0]["proprio"].shape)
"""


def test_an_opengl_that_is_not_there_costs_training_from_state_nothing():
    """mujoco chooses its OpenGL while it is imported: that failed with a traceback."""
    args = [sys.executable, "-c", WITHOUT_OPENGL]
    outcome = subprocess.run(args, env=os.environ | {"MUJOCO_GL": "bogus"}, capture_output=True, text=True, check=False)
    assert (outcome.stdout.strip(), outcome.stderr) == ("(18,)", "")


def test_synchronous_training_is_the_same_to_the_bit_for_a_seed(tmp_path: Path):
    first = train(args(tmp_path / "first"))
    assert train(args(tmp_path / "second")) == first
    assert train(args(tmp_path / "other", seed=4)) != first


def test_training_from_the_simulators_camera_is_the_same_to_the_bit_for_a_seed(tmp_path: Path):
    """Rendering, the frozen encoder, the shifts of the copies and the choice among them all come from the seed."""
    small = {"task": seen(tmp_path, "FEATURES"), "utd": 1, "batch": 16}
    first = train(args(tmp_path / "first", **small))
    assert train(args(tmp_path / "second", **small)) == first
    facts = load_policy(tmp_path / "first" / "policy.safetensors").facts
    assert facts["encoder"].startswith("random-")
    (demonstration,) = episode_paths(tmp_path / "first" / "demos")
    assert load_header(demonstration).task_digest == facts["task_digest"]
    start = load_episode(demonstration)[0].observation
    assert start.features["wrist"].shape == (2, 2, 2, 64)
    assert start.frames["wrist"].tobytes().startswith(b"\x89PNG")
    assert start.images == {}


def test_training_on_pixels_trains_and_gives_a_policy_that_can_be_scored(tmp_path: Path):
    """The actor built its policy for images, which none can read."""
    run = tmp_path / "run"
    run_train(args(run, task=seen(tmp_path, "PIXELS"), utd=1, batch=4, steps=103, trials=1))
    facts = load_policy(run / "policy.safetensors").facts
    assert facts["task_digest"].endswith("-pixels")
    assert facts["spec"]["image_shapes"] == {}
    assert (run / "eval.json").exists()


JUDGED = """
from pathlib import Path
import dataclasses

from serl_core.config import RewardConfig, RewardKind
from serl_core.envs.task import load_task

BASE = load_task(str(Path(__file__).with_name("seen_features.py")))
TASK = dataclasses.replace(
    BASE, config=dataclasses.replace(BASE.config, reward=RewardConfig(kind=RewardKind.CLASSIFIER))
)
"""


def test_a_classifier_that_is_missing_is_asked_for_before_anything_is_written(tmp_path: Path):
    """It was asked for after task.json was written, so the next try found a folder that was not empty."""
    seen(tmp_path, "FEATURES")
    (tmp_path / "judged.py").write_text(JUDGED)
    with pytest.raises(ConfigError, match="asks for a classifier and there is none"):
        train(args(tmp_path / "run", task=str(tmp_path / "judged.py")))
    assert not (tmp_path / "run").exists()
