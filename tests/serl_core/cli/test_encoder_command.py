import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.sim.scenes import build_ram_insertion
from serl_core.cli import encoder as command
from serl_core.cli.encoder import DEPTH_M, draw_pose, render, seen_from
from serl_core.cli.main import main
from serl_core.image_config import EncoderConfig, EncoderKind
from serl_core.networks import pretraining
from serl_core.networks.frozen import load_encoder

DOWN = (1.0, 0.0, 0.0, 0.0)
TARGET = (0.5, 0.0, 0.058, *DOWN)


def test_the_target_is_told_in_the_tools_frame():
    np.testing.assert_allclose(seen_from((0.51, 0.02, 0.098, *DOWN), TARGET), [-10, 20, 40, 0, 0], atol=1e-3)
    turned = (Rotation.from_rotvec([0.0, 0.0, 0.1]) * Rotation.from_quat(DOWN)).as_quat()
    np.testing.assert_allclose(seen_from((0.5, 0.0, 0.098, *turned), TARGET), [0, 0, 40, 100, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("x_m", "z_m", "depth_mm"), [(0.5, 0.058, 15.0), (0.5, 0.068, 5.0), (0.5, 0.08, 0.0), (0.503, 0.06, 0.0)]
)
def test_depth_counts_in_the_socket_alone(x_m: float, z_m: float, depth_mm: float):
    assert seen_from((x_m, 0.0, z_m, *DOWN), TARGET)[4] == pytest.approx(depth_mm, abs=1e-3)


def test_moments_are_drawn_far_from_the_socket_over_it_and_in_it():
    random = np.random.default_rng(0)
    seen = np.array([seen_from(draw_pose(TARGET, random), TARGET) for _ in range(400)])
    assert 0.15 < (seen[:, 4] > 0).mean() < 0.35
    assert (np.abs(seen[:, 0]) > 20).mean() > 0.1
    assert seen[:, 2].min() > -1.0
    assert (seen[:, 2] > 1e3 * DEPTH_M).mean() > 0.6


def test_pictures_repeat_themselves_and_differ_from_each_other():
    scene = build_ram_insertion()
    names, first = render(scene, 12, seed=0, size=32)
    _, second = render(scene, 12, seed=0, size=32)
    assert "wrist" in names
    assert first.images.shape == (len(names), 12 // len(names), 32, 32, 3)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.targets, second.targets)
    assert len({image.tobytes() for image in first.images.reshape(-1, 32 * 32 * 3)}) == 12


def test_the_command_writes_an_encoder_and_its_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "probe", lambda *args: pretraining.probe(*args, steps=1))
    out = tmp_path / "made" / "small.safetensors"
    assert main(["encoder", "pretrain", "--out", str(out), "--images", "90", "--steps", "1"]) == 0
    made = load_encoder(EncoderConfig(kind=EncoderKind.SMALL, weights=str(out)))
    shown = capsys.readouterr().out.replace("\n", "")
    assert made.identity in shown
    assert "wrist" in shown


def test_an_opengl_that_is_not_there_is_one_sentence():
    """mujoco chooses its OpenGL while it is imported: that failed with a traceback before anything was read."""
    code = "import sys; from serl_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    args = [sys.executable, "-c", code, "encoder", "pretrain", "--out", "x.safetensors"]
    outcome = subprocess.run(args, env=os.environ | {"MUJOCO_GL": "bogus"}, capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("serl encoder: the simulator's cameras need OpenGL (MUJOCO_GL=bogus")


@pytest.mark.parametrize(("option", "value"), [("images", "3"), ("steps", "0"), ("seed", "-1")])
def test_a_bad_number_is_refused_in_one_sentence(option: str, value: str, capsys: pytest.CaptureFixture[str]):
    assert main(["encoder", "pretrain", "--out", "x.safetensors", f"--{option}", value]) == 2
    assert f"--{option}: must be at least" in capsys.readouterr().err
