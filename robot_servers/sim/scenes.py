"""The scenes of the simulator: what stands on the table, what the hand holds, and when the task is done."""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.model import CONTACT_ROBOT, CONTACT_WORLD, TCP_OFFSET_M, panda_spec
from serl_core.robots.messages import Vector3, Vector7

Floats = NDArray[np.float64]
IsSuccess = Callable[[Floats, Floats], bool]
"""(object's position [3], object's rotation matrix [3, 3], base frame) -> the task is done."""

POINTING_DOWN = (1.0, 0.0, 0.0, 0.0)  # xyzw: half a turn about x


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One compiled scene. The body ``object`` is held in the hand by the equality constraint ``grasp``."""

    name: str
    model: mujoco.MjModel
    start_pose: Vector7  # of the tool, base frame
    tool_target_pose: Vector7  # of the tool when the task is done, if the object sits in the hand as nominal
    object_target_pose: Vector7
    object_width_m: float  # between the fingers
    object_in_hand_m: Vector3  # its origin in the hand's frame; it is not turned
    grasp_variation_m: Vector3  # each reset shifts the object in the hand by uniform +- this
    is_success: IsSuccess


# RAM insertion: a stick of 60 x 5 mm into a socket 15 mm deep with 0.5 mm clearance on every side.
STICK_HALF_M = (0.030, 0.0025, 0.018)
STICK_IN_TCP_M = 0.015  # its centre, along the tool's z: the lower end is 33 mm beyond the tool centre point
STICK_MASS_KG = 0.03
CLEARANCE_M = 0.0005
SOCKET_XY_M = (0.5, 0.0)
SOCKET_RIM_M = 0.040  # height above the table
SOCKET_FLOOR_M = 0.025
SEATED_WITHIN_M = 0.0015  # of the socket's floor
SINKING_M = 0.0005  # a stick pressed against a soft wall sinks into it by less than this
RAM_START_POSE: Vector7 = (*SOCKET_XY_M, 0.12, *POINTING_DOWN)
RAM_TARGET_POSE: Vector7 = (*SOCKET_XY_M, SOCKET_FLOOR_M + STICK_HALF_M[2] + STICK_IN_TCP_M, *POINTING_DOWN)
"""The tool's pose with the stick on the socket's floor: (0.5, 0, 0.058), pointing down."""


def build_ram_insertion() -> Scene:
    """Return the RAM task: push the stick that the hand holds into the socket on the table.

    The stick is a free body held by a stiff weld, not by finger friction: the weld has one known
    compliance (0.06 mm at 10 N, checked by a test, in place of the finger pads'), never creeps by an
    amount that depends on the solver, and saves two pairs of contacts in every tick. Opening the hand
    lets the stick go.
    """
    spec = panda_spec()
    _add_table(spec)
    _add_socket(spec)
    _add_stick(spec)
    x, y, z = RAM_TARGET_POSE[:3]
    return Scene(
        name="ram_insertion",
        model=spec.compile(),
        start_pose=RAM_START_POSE,
        tool_target_pose=RAM_TARGET_POSE,
        object_target_pose=(x, y, z - STICK_IN_TCP_M, *POINTING_DOWN),
        object_width_m=2 * STICK_HALF_M[1],
        object_in_hand_m=(0.0, 0.0, TCP_OFFSET_M + STICK_IN_TCP_M),
        grasp_variation_m=(0.0002, 0.0, 0.0),
        is_success=is_stick_seated,
    )


_STICK_LOWER_CORNERS_M = np.array(
    [(i * STICK_HALF_M[0], j * STICK_HALF_M[1], STICK_HALF_M[2]) for i in (-1, 1) for j in (-1, 1)]
)
_SEATED_ACROSS_M = CLEARANCE_M + SINKING_M
_SEATED_LOW_M = np.array(
    [SOCKET_XY_M[0] - STICK_HALF_M[0] - _SEATED_ACROSS_M, SOCKET_XY_M[1] - STICK_HALF_M[1] - _SEATED_ACROSS_M]
)
_SEATED_HIGH_M = 2 * np.array(SOCKET_XY_M) - _SEATED_LOW_M


def is_stick_seated(position_m: Floats, rotation: Floats) -> bool:
    """Return whether all four lower corners are inside the socket and within 1.5 mm of its floor."""
    corners = _STICK_LOWER_CORNERS_M @ rotation.T + position_m
    across = corners[:, :2]
    return bool(
        corners[:, 2].max() <= SOCKET_FLOOR_M + SEATED_WITHIN_M
        and (across >= _SEATED_LOW_M).all()
        and (across <= _SEATED_HIGH_M).all()
    )


SCENES: dict[str, Callable[[], Scene]] = {"ram_insertion": build_ram_insertion}

_BOX = mujoco.mjtGeom.mjGEOM_BOX


def _add_table(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_light(pos=(0.5, 0.3, 2.0), dir=(0, 0, -1), diffuse=(0.8, 0.8, 0.8))
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1, 1, 0.1),
        rgba=(0.55, 0.5, 0.45, 1),
        friction=(0.6, 0.005, 0.0001),
        **CONTACT_WORLD,
    )
    for name, y in (("side_1", 0.35), ("side_2", -0.35)):
        camera = world.add_camera(name=name, pos=(SOCKET_XY_M[0] + 0.35, y, 0.25), fovy=35)
        camera.mode = mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY
        camera.targetbody = "socket"


def _add_socket(spec: mujoco.MjSpec) -> None:
    socket = spec.worldbody.add_body(name="socket", pos=(*SOCKET_XY_M, 0.0))
    half_x, half_y = STICK_HALF_M[0] + CLEARANCE_M, STICK_HALF_M[1] + CLEARANCE_M
    long_wall, end_wall = 0.0045, 0.003  # half thickness
    rim, floor = SOCKET_RIM_M / 2, SOCKET_FLOOR_M / 2
    shape = {"friction": (0.3, 0.005, 0.0001), **CONTACT_WORLD}
    for sign in (-1, 1):
        socket.add_geom(
            type=_BOX,
            pos=(0, sign * (half_y + long_wall), rim),
            size=(half_x + 2 * end_wall, long_wall, rim),
            rgba=(0.15, 0.15, 0.15, 1),
            **shape,
        )
        socket.add_geom(
            type=_BOX,
            pos=(sign * (half_x + end_wall), 0, rim),
            size=(end_wall, half_y, rim),
            rgba=(0.7, 0.7, 0.2, 1),
            **shape,
        )
    socket.add_geom(
        name="socket_floor",
        type=_BOX,
        pos=(0, 0, floor),
        size=(half_x, half_y, floor),
        rgba=(0.1, 0.1, 0.1, 1),
        **shape,
    )


def _add_stick(spec: mujoco.MjSpec) -> None:
    stick = spec.worldbody.add_body(name="object")
    stick.add_freejoint()
    stick.add_geom(
        name="stick",
        type=_BOX,
        size=STICK_HALF_M,
        mass=STICK_MASS_KG,
        rgba=(0.1, 0.5, 0.1, 1),
        friction=(0.3, 0.005, 0.0001),
        **CONTACT_ROBOT,
    )
    grasp = spec.add_equality(name="grasp", type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY)
    grasp.name1, grasp.name2 = "hand", "object"
    grasp.data = np.array(
        [0, 0, 0, 0, 0, TCP_OFFSET_M + STICK_IN_TCP_M, 1, 0, 0, 0, 1, 0.0]
    )  # anchor, pose in the hand, torque scale
    # An impedance that is constant over the deflection: one that rises with it pumps energy into a push.
    grasp.solref, grasp.solimp = (0.003, 1.0), (0.98, 0.98, 0.001, 0.5, 2.0)
