"""What a picture of the simulator's wrist camera costs, beside MuJoCo's own renderer as it comes.

Run as `python benchmarks/camera_speed.py`. Prints one JSON line of wall times at 128 x 128 pixels. The two draw in
turns, so that what else runs on the machine slows both. `served_ms` is the whole way to a client on this machine.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo's renderer decides while it is imported

import mujoco
import numpy as np

from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.sim.cameras import SceneCamera
from robot_servers.sim.scenes import build_ram_insertion
from robot_servers.testing import serving
from serl_core.robots.http_client import HttpRobot

SIDE = 128  # pixels
REPEATS = 100


def medians_ms(*works: Callable[[], object]) -> list[float]:
    """Return the median wall time of each of `works` in ms, all of them in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for work, taken in zip(works, times, strict=True):
            start_s = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start_s)
    return [round(1e3 * float(np.median(taken[1:])), 3) for taken in times]


def drawing_ms() -> list[float]:
    """Return the times of a picture here and with MuJoCo's renderer."""
    scene = build_ram_insertion()
    data = mujoco.MjData(scene.model)
    ours, theirs = SceneCamera(scene), mujoco.Renderer(scene.model, SIDE, SIDE)
    ours.place(scene.start_pose, np.random.default_rng(0))
    ours_qpos = ours.configuration()
    data.qpos[:] = ours_qpos

    def draw() -> None:
        ours.show(ours_qpos)
        ours.render("wrist", SIDE, SIDE)

    def draw_by_default() -> None:
        mujoco.mj_forward(scene.model, data)
        theirs.update_scene(data, "wrist")
        theirs.render()

    try:
        return medians_ms(draw, draw_by_default)
    finally:
        ours.close()
        theirs.close()


def served_ms() -> list[float]:
    """Return the times of a picture and of a state over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        token_file = Path(folder) / "token"
        token_file.write_text("token\n")
        with serving(RobotService(MujocoBackend("ram_insertion", is_lockstep=True)), "token") as url:
            robot = HttpRobot(url, owner="benchmark", token_file=token_file)
            robot.camera("wrist", SIDE, SIDE)  # the first loads OpenGL
            times = medians_ms(lambda: robot.camera("wrist", SIDE, SIDE), robot.state)
            robot.close()
    return times


def main() -> None:
    """Measure and print."""
    ours_ms, default_ms = drawing_ms()
    picture_ms, state_ms = served_ms()
    print(
        json.dumps(
            {
                "picture_ms": ours_ms,
                "mujoco_default_ms": default_ms,
                "ratio": round(default_ms / ours_ms, 1),
                "served_ms": picture_ms,
                "served_state_ms": state_ms,
            }
        )
    )


if __name__ == "__main__":
    main()
