"""OpenGL that is not there costs the pictures, and nothing else."""

import subprocess
import sys
import types

import pytest

from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.gl import gl_backend, import_mujoco, open_context
from serl_core.cli.doctor import DoctorArgs, run_doctor
from serl_core.errors import ConfigError, RobotError

PACKAGES = r"libegl1 and libgl1-mesa-dri .*libosmesa6"


def test_egl_is_chosen_unless_the_variable_says_otherwise(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert gl_backend() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "OSMesa")
    assert gl_backend() == "osmesa"


def without_library(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)


def without_driver(monkeypatch):
    """PyOpenGL's way to say that libEGL is not there."""

    def fail(width, height):
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", types.SimpleNamespace(GLContext=fail))


@pytest.mark.parametrize("lose", [without_library, without_driver])
def test_a_missing_library_is_one_sentence_with_the_packages(monkeypatch, capsys, lose):
    lose(monkeypatch)
    with pytest.raises(RobotError, match=PACKAGES) as refused:
        open_context()
    assert refused.value.status == 503
    assert "\n" not in str(refused.value)
    run_doctor(DoctorArgs())
    assert "libegl1" in capsys.readouterr().out


def test_an_unknown_backend_names_those_there_are(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(RobotError, match=r"vulkan: known are egl, osmesa, glfw"):
        open_context()


def test_without_a_library_the_arm_still_moves(monkeypatch):
    without_library(monkeypatch)
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True))
    service.start()
    robot = LocalRobot(service)
    robot.connect()
    for _ in range(2):
        with pytest.raises(RobotError, match=PACKAGES) as refused:
            robot.camera("wrist")
        assert refused.value.status == 503
    assert robot.step(robot.state().tcp_pose, 0.01).stamp_s == pytest.approx(0.01)
    robot.close()
    service.close()


def test_without_mujoco_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match=r"'mujoco': pip install 'serl\[sim\]'"):
        import_mujoco()


def test_mujoco_is_imported_whatever_the_variable_says():
    """mujoco alone fails at its import when the variable is wrong or the library not there."""
    code = f"""
import os
os.environ["MUJOCO_GL"] = "bogus"
from robot_servers.sim.gl import {import_mujoco.__name__}
import_mujoco()
import robot_servers.sim.backend
assert os.environ["MUJOCO_GL"] == "bogus"
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""
