"""OpenGL without a screen: EGL unless $MUJOCO_GL says otherwise, chosen when the first picture is drawn.

MuJoCo itself chooses while it is imported, and then fails as a whole where the library is missing. The
arm must be simulated all the same, so its choice is not used here.
"""

import importlib
import logging
import os
from typing import Any

from serl_core.errors import ConfigError, RobotError

BACKENDS = ("egl", "osmesa", "glfw")
REMEDY = (
    "install Debian's libegl1 and libgl1-mesa-dri (apt install libegl1 libgl1-mesa-dri), "
    "or set MUJOCO_GL=osmesa with libosmesa6"
)


def gl_backend() -> str:
    """Return the name of the OpenGL backend: $MUJOCO_GL, or egl."""
    return os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"


def open_context() -> Any:
    """Return a new OpenGL context, current in this thread, to which it belongs; `free` it there.

    Raises:
        RobotError: no such backend, or its library cannot be loaded (status 503).
    """
    name = gl_backend()
    logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)  # it would report what nobody needs
    try:
        if name not in BACKENDS:
            raise ImportError(f"known are {', '.join(BACKENDS)}")
        context = importlib.import_module(f"mujoco.{name}").GLContext(16, 16)  # pictures go to buffers of their own
        context.make_current()
    except Exception as error:  # PyOpenGL raises whatever it stumbles over
        why = " ".join(str(error).split())[:120]
        raise RobotError(
            f"the simulator's cameras need OpenGL (MUJOCO_GL={name}: {why}); {REMEDY}", status=503
        ) from None
    return context


def import_mujoco() -> None:
    """Import mujoco without its own choice of an OpenGL backend, so that a broken one costs the pictures only.

    Raises:
        ConfigError: mujoco is not installed.
    """
    chosen = os.environ.pop("MUJOCO_GL", None)
    try:
        importlib.import_module("mujoco")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the simulator needs the package {error.name!r}: pip install 'serl[sim]'") from None
    finally:
        if chosen is not None:
            os.environ["MUJOCO_GL"] = chosen
