"""The simulator's cameras: pictures of a scene, drawn beside the physics and never in its way.

An OpenGL context belongs to one thread, so a `CameraThread` draws for the server. A program that only
wants pictures uses `SceneCamera` directly.
"""

import contextlib
import copy
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.gl import open_context
from robot_servers.sim.scenes import Scene, textured_model
from robot_servers.sim.visuals import Visuals, randomise, visual_stream
from robot_servers.sim.world import World
from serl_core.errors import RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import Vector7

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

MAX_SIZES = 4  # picture sizes whose buffers are kept
MAX_DRAWN = 500  # geoms of a scene
TIMEOUT_S = 10.0  # the first picture takes the longest: it loads OpenGL
_OFFSCREEN = mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value
_EVERYTHING = mujoco.mjtCatBit.mjCAT_ALL.value


class Snapshot(NamedTuple):
    """What a picture shows."""

    configuration: Floats  # MuJoCo's qpos
    stamp_s: float
    look: int | None = None  # seed of the looks; None: those of the scene


class _Canvas:
    """The drawing context of one picture size, in the current OpenGL context."""

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width  # a larger buffer costs time
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self.rectangle = mujoco.MjrRect(0, 0, width, height)
        self.pixels: Pixels = np.empty((height, width, 3), np.uint8)
        self.look: int | None = None  # whose textures it holds


class SceneCamera:
    """Draws a scene's cameras. Made, used and closed in one thread.

    Args:
        scene: its model is copied: nothing here reaches a simulation under way.
        visuals: how it looks.

    Raises:
        RobotError: there is no OpenGL (status 503; the message names what to install).
    """

    def __init__(self, scene: Scene, visuals: Visuals | None = None) -> None:
        self._visuals = visuals = visuals or Visuals()
        has_textures = visuals.randomisation is not None or visuals.has_sky
        self._base = textured_model(scene) if has_textures else scene.model
        self._model = model = copy.deepcopy(self._base)
        _set_quality(model, visuals)
        self._scene = dataclasses.replace(scene, model=model)
        self._data = mujoco.MjData(model)
        self._ids = {model.camera(i).name: i for i in range(model.ncam)}
        self._world: World | None = None
        self._look: int | None = None
        self._canvases: OrderedDict[tuple[int, int], _Canvas] = OrderedDict()
        self._drawn = mujoco.MjvScene(model, maxgeom=MAX_DRAWN)
        for flag, is_on in (
            (mujoco.mjtRndFlag.mjRND_SHADOW, visuals.has_shadows),
            (mujoco.mjtRndFlag.mjRND_REFLECTION, False),
            (mujoco.mjtRndFlag.mjRND_SKYBOX, visuals.has_sky),
        ):
            self._drawn.flags[flag] = is_on
        self._option, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._gl: Any = open_context()

    def place(self, pose: Vector7, random: np.random.Generator) -> None:
        """Show the arm with its tool at `pose`, as after a reset there.

        Raises:
            RobotError: the arm cannot reach the pose, or the tool would stand inside something.
        """
        if self._world is None:
            self._world = World(self._scene)
        self._world.place(pose, random)
        self.show(self._world.configuration())

    def configuration(self) -> Floats:
        """Return MuJoCo's `qpos` [nq] of what is shown (a copy)."""
        return self._data.qpos.copy()

    def show(self, configuration: Floats) -> None:
        """Show the scene at MuJoCo's `qpos` [nq]."""
        self._data.qpos[:] = configuration
        mujoco.mj_kinematics(self._model, self._data)

    def randomise(self, seed: int | None) -> None:
        """Draw the looks that belong to `seed`, within the visuals' ranges; None: those of the scene."""
        ranges = self._visuals.randomisation
        if ranges is not None and seed != self._look:
            restored = ranges if seed is not None else dataclasses.replace(ranges, **dict.fromkeys(vars(ranges), 0.0))
            randomise(self._model, self._base, restored, visual_stream(seed or 0))
            self._look = seed

    def render(self, name: str, height: int = 128, width: int = 128) -> Pixels:
        """Return what the camera `name` sees: RGB [height, width, 3], row 0 at the top; the same for the same state."""
        self._gl.make_current()
        model, data, scale = self._model, self._data, self._visuals.supersampling
        canvas = self._canvas(scale * height, scale * width)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        self._camera.fixedcamid = self._ids[name]
        mujoco.mjv_updateScene(model, data, self._option, self._perturbation, self._camera, _EVERYTHING, self._drawn)
        mujoco.mjr_setBuffer(_OFFSCREEN, canvas.context)  # else it draws to the size made last
        mujoco.mjr_render(canvas.rectangle, self._drawn, canvas.context)
        mujoco.mjr_readPixels(canvas.pixels, None, canvas.rectangle, canvas.context)
        pixels = canvas.pixels
        if scale > 1:
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return pixels[::-1].copy()  # OpenGL counts rows from the bottom

    def close(self) -> None:
        """Free what OpenGL holds. Safe to call twice."""
        gl, self._gl = self._gl, None
        if gl is not None:
            gl.make_current()
            while self._canvases:
                self._canvases.popitem()[1].context.free()
            gl.free()

    def __del__(self) -> None:
        if getattr(self, "_gl", None) is not None:
            with contextlib.suppress(Exception):  # the interpreter may be ending
                self.close()

    def _canvas(self, height: int, width: int) -> _Canvas:
        canvas = self._canvases.get((height, width))
        if canvas is None:
            if len(self._canvases) >= MAX_SIZES:
                self._canvases.popitem(last=False)[1].context.free()
            canvas = self._canvases[height, width] = _Canvas(self._model, height, width)
            canvas.look = self._look
        self._canvases.move_to_end((height, width))
        if canvas.look != self._look:
            mujoco.mjr_uploadTexture(self._model, canvas.context, self._model.texture("table").id)
            canvas.look = self._look
        return canvas


def _set_quality(model: mujoco.MjModel, visuals: Visuals) -> None:
    quality = model.vis.quality
    quality.offsamples = visuals.multisamples
    if not visuals.has_shadows:
        quality.shadowsize = 0
    if not visuals.is_fine:
        quality.numslices, quality.numstacks, quality.numquads = 8, 4, 1


class CameraThread:
    """Draws for all other threads, from its first picture on.

    Args:
        scene: whose cameras.
        snapshot: returns the newest state; called in the drawing thread.
        visuals: how it looks.
    """

    def __init__(self, scene: Scene, snapshot: Callable[[], Snapshot], visuals: Visuals) -> None:
        self._scene = scene
        self._snapshot = snapshot
        self._visuals = visuals
        self._camera: SceneCamera | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.names = tuple(scene.model.camera(i).name for i in range(scene.model.ncam))

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        """Wait for a picture of the newest state, and return it.

        Raises:
            RobotError: there is no OpenGL, or it does not answer (status 503).
        """
        with self._lock:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "sim-cameras")
            answer = self._thread.submit(self._draw, name, height, width)
        try:
            return answer.result(TIMEOUT_S)
        except TimeoutError:
            answer.cancel()
            raise RobotError(f"camera {name!r}: no picture within {TIMEOUT_S:g} s", status=503) from None

    def close(self) -> None:
        """Free what OpenGL holds; the next picture starts it anew. Safe to call twice."""
        with self._lock:  # to the end: a new thread must not meet what belongs to this one
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.submit(self._close)
                thread.shutdown()

    def _draw(self, name: str, height: int, width: int) -> CameraImage:
        if self._camera is None:
            self._camera = SceneCamera(self._scene, self._visuals)
        snapshot = self._snapshot()
        try:
            self._camera.randomise(snapshot.look)
            self._camera.show(snapshot.configuration)
            image = self._camera.render(name, height, width)
        except Exception as error:  # MuJoCo's and PyOpenGL's are many; the next picture starts anew
            self._close()
            raise RobotError(f"camera {name!r}: no picture can be drawn ({error})", status=503) from None
        image.flags.writeable = False
        return CameraImage(image, snapshot.stamp_s)

    def _close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(Exception):  # a lost context cannot be freed
                camera.close()
