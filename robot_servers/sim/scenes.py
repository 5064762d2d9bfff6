"""The scenes of the simulator: what stands on the table, what the hand holds, and when the task is done."""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.model import CONTACT_ROBOT, CONTACT_WORLD, TCP_OFFSET_M, camera_quaternion, panda_spec
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
    spec: mujoco.MjSpec  # that the model was compiled from
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
    _add_light(spec)
    _add_table(spec)
    _add_socket(spec)
    _add_stick(spec)
    x, y, z = RAM_TARGET_POSE[:3]
    return Scene(
        name="ram_insertion",
        model=spec.compile(),
        spec=spec,
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
    (across_x, across_y, up), (half_x, half_y, half_z) = rotation[2].tolist(), STICK_HALF_M
    highest_m = position_m[2] + abs(across_x) * half_x + abs(across_y) * half_y + up * half_z
    if not highest_m <= SOCKET_FLOOR_M + SEATED_WITHIN_M:  # nearly always, and told without an array
        return False
    across = (_STICK_LOWER_CORNERS_M @ rotation.T + position_m)[:, :2]
    return bool((across >= _SEATED_LOW_M).all() and (across <= _SEATED_HIGH_M).all())


SCENES: dict[str, Callable[[], Scene]] = {"ram_insertion": build_ram_insertion}

_BOX = mujoco.mjtGeom.mjGEOM_BOX
SIDE_VIEW_M = 0.065  # above the table: between the socket and the stick at its start

# Hues far apart, so that edges show in every channel.
TABLE = (0.62, 0.62, 0.64, 1.0)
LONG_WALL = (0.12, 0.2, 0.6, 1.0)
END_WALL = (0.75, 0.2, 0.15, 1.0)
SOCKET_FLOOR = (0.95, 0.9, 0.3, 1.0)
STICK = (0.1, 0.5, 0.15, 1.0)
STICK_BAND = (0.9, 0.6, 0.1, 1.0)


def textured_model(scene: Scene) -> mujoco.MjModel:
    """Return a scene's model with a white texture ``table``, for randomisation to paint on, and a sky.

    The scene itself has none: OpenGL takes a tenth of a second for the first, and holds up all threads meanwhile.
    """
    spec, kinds, looks = scene.spec.copy(), mujoco.mjtTexture, mujoco.mjtBuiltin
    spec.add_texture(
        name="table", type=kinds.mjTEXTURE_2D, builtin=looks.mjBUILTIN_FLAT, rgb1=(1, 1, 1), width=128, height=128
    )
    spec.add_texture(
        name="sky",
        type=kinds.mjTEXTURE_SKYBOX,
        builtin=looks.mjBUILTIN_GRADIENT,
        rgb1=(0.75, 0.85, 0.95),
        rgb2=(0.3, 0.35, 0.45),
        width=64,
        height=384,
    )
    material = spec.add_material(
        name="table", texuniform=True, texrepeat=(4, 4), rgba=TABLE, specular=0.0, shininess=0.0
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    spec.geom("table").material = "table"
    return spec.compile()


def _add_light(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(0.9, 0.7, 1.5),
        dir=(-0.4, -0.7, -1.5),
        diffuse=(0.5, 0.5, 0.5),
        specular=(0.0, 0.0, 0.0),
    )
    headlight = spec.visual.headlight  # at the camera: with it no face that a camera sees is black
    headlight.ambient, headlight.diffuse, headlight.specular = (0.4,) * 3, (0.4,) * 3, (0.0,) * 3
    spec.visual.map.znear = 0.005


def _add_table(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1, 1, 0.1),
        rgba=TABLE,
        friction=(0.6, 0.005, 0.0001),
        **CONTACT_WORLD,
    )
    for name, (x, y, z) in (("side_1", (0.26, 0.22, 0.19)), ("side_2", (0.1, -0.32, 0.2))):
        position = (SOCKET_XY_M[0] + x, SOCKET_XY_M[1] + y, z)
        quaternion = camera_quaternion(position, (*SOCKET_XY_M, SIDE_VIEW_M), up=(0.0, 0.0, 1.0))
        world.add_camera(name=name, pos=position, quat=quaternion, fovy=26)


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
            rgba=LONG_WALL,
            **shape,
        )
        socket.add_geom(
            type=_BOX,
            pos=(sign * (half_x + end_wall), 0, rim),
            size=(end_wall, half_y, rim),
            rgba=END_WALL,
            **shape,
        )
    socket.add_geom(
        name="socket_floor",
        type=_BOX,
        pos=(0, 0, floor),
        size=(half_x, half_y, floor),
        rgba=SOCKET_FLOOR,
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
        rgba=STICK,
        friction=(0.3, 0.005, 0.0001),
        **CONTACT_ROBOT,
    )
    depth, skin = (SOCKET_RIM_M - SOCKET_FLOOR_M) / 2, 0.0001
    stick.add_geom(  # a band that the socket hides as the stick goes in: a camera sees by it how deep it is
        type=_BOX,
        pos=(0, 0, STICK_HALF_M[2] - depth),
        size=(STICK_HALF_M[0] + skin, STICK_HALF_M[1] + skin, depth + skin),
        mass=0.0,
        rgba=STICK_BAND,
        contype=0,
        conaffinity=0,
    )
    grasp = spec.add_equality(name="grasp", type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY)
    grasp.name1, grasp.name2 = "hand", "object"
    grasp.data = np.array(
        [0, 0, 0, 0, 0, TCP_OFFSET_M + STICK_IN_TCP_M, 1, 0, 0, 0, 1, 0.0]
    )  # anchor, pose in the hand, torque scale
    # An impedance that is constant over the deflection: one that rises with it pumps energy into a push.
    grasp.solref, grasp.solimp = (0.003, 1.0), (0.98, 0.98, 0.001, 0.5, 2.0)
