"""A Franka Panda built from capsules and boxes (REFERENCE section 5): no mesh, no file, no download.

The arm's joints come first in the model, so `qpos[:7]` and `qvel[:7]` are q and dq. Joints carry no
damping or friction: the arm's own controller compensates both. Geoms of the robot touch the world
and never each other.
"""

import math
from typing import Any, NamedTuple

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from serl_core.robots.messages import Vector3, Vector7

PERIOD_S = 1e-3  # one physics step is one control tick
GRAVITY_M_S2 = 9.81
HAND_TURN_RAD = -math.pi / 4  # the hand's frame in the flange's, about z
TCP_OFFSET_M = 0.1034  # from the hand's (and flange's) origin along z
FINGER_STROKE_M = 0.04  # of each finger; the hand opens twice as far
GRIPPER_FORCE_N = 60.0  # SAFETY 1.4 rule 8

REST_Q: Vector7 = (0.0, 0.0, 0.0, -1.9, 0.0, 1.9, math.pi / 4)
"""The rest posture in rad. HIL-SERL's is (0, 0, 0, -1.9, 0, 2, 0): 0.1 rad off vertical, fingers at 45 degrees.

With q6 = q2 - q4 the hand points straight down; q7 = pi/4 undoes the hand's turn on the flange, so
that the tool's x axis is the base's.
"""

# Contacts stiffer than MuJoCo's default, in which a light object under 16 N sinks in by a centimetre.
_STIFF = {"solref": (0.002, 1.0), "solimp": (0.99, 0.99, 0.001, 0.5, 2.0)}
CONTACT_ROBOT: dict[str, Any] = {"contype": 1, "conaffinity": 2, **_STIFF}
CONTACT_WORLD: dict[str, Any] = {"contype": 2, "conaffinity": 1, **_STIFF}

_X_PLUS, _X_MINUS = math.pi / 2, -math.pi / 2
_WHITE = (0.93, 0.93, 0.93, 1.0)
_DARK = (0.25, 0.25, 0.27, 1.0)


class Link(NamedTuple):
    """One moving link: its joint frame in the parent, its joint, its inertia and its shape."""

    origin_m: Vector3
    turn_x_rad: float  # of the joint frame about the parent's x axis
    range_rad: tuple[float, float]
    mass_kg: float
    center_m: Vector3
    inertia_kg_m2: Vector3  # diagonal
    capsule_m: tuple[float, float, float, float, float, float]  # from, to
    radius_m: float


# Frames, limits and masses: REFERENCE section 5. Centres and inertias: rounded from identified values
# (Gaz et al. 2019, "Dynamic identification of the Franka Emika Panda robot"), diagonal.
LINKS = (
    Link((0, 0, 0.333), 0.0, (-2.8973, 2.8973), 4.97, (0, 0, -0.07), (0.07, 0.07, 0.009), (0, 0, -0.15, 0, 0, 0), 0.06),
    Link((0, 0, 0), _X_MINUS, (-1.7628, 1.7628), 0.647, (0, -0.03, 0.003), (0.008, 0.028, 0.026),
         (0, -0.06, 0, 0, -0.25, 0), 0.06),
    Link((0, -0.316, 0), _X_PLUS, (-2.8973, 2.8973), 3.229, (0.027, 0.039, -0.066), (0.037, 0.036, 0.011),
         (0, 0, -0.08, 0.08, 0, 0), 0.055),
    Link((0.0825, 0, 0), _X_PLUS, (-3.0718, -0.0698), 3.588, (-0.053, 0.104, 0.027), (0.026, 0.02, 0.028),
         (0, 0, 0, -0.08, 0.1, 0), 0.055),
    Link((-0.0825, 0.384, 0), _X_MINUS, (-2.8973, 2.8973), 1.226, (-0.012, 0.041, -0.038), (0.036, 0.029, 0.008),
         (0, 0, -0.25, 0, 0.03, 0), 0.05),
    Link((0, 0, 0), _X_PLUS, (-0.0175, 3.7525), 1.667, (0.06, -0.014, -0.01), (0.002, 0.004, 0.005),
         (0, 0, 0, 0.08, 0, 0), 0.05),
    Link((0.088, 0, 0), _X_PLUS, (-2.8973, 2.8973), 0.736, (0.01, -0.004, 0.06), (0.012, 0.01, 0.005),
         (0, 0, 0.04, 0, 0, 0.07), 0.045),
)  # fmt: skip

FLANGE_OFFSET_M = 0.107  # from joint 7 along z


def panda_spec() -> mujoco.MjSpec:
    """Return a world with a Panda at its origin: bodies ``link0``..``link7``, ``hand``, site ``tcp``, camera ``wrist``.

    1 ms steps; elliptic friction cones with impratio 10 hold a pressed object without creep.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = PERIOD_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.option.gravity = (0.0, 0.0, -GRAVITY_M_S2)
    body = spec.worldbody.add_body(name="link0")
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=(0, 0, 0.02, 0, 0, 0.2), size=(0.07, 0, 0), rgba=_WHITE, **_SHAPE
    )
    for number, link in enumerate(LINKS, start=1):
        body = _add_link(body, number, link)
    _add_hand(body)
    for side in ("left", "right"):
        actuator = spec.add_actuator(name=side, target=f"{side}_finger", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=2000.0, dampratio=1.0)
        actuator.forcerange = (-GRIPPER_FORCE_N, GRIPPER_FORCE_N)
        actuator.forcelimited = True
    return spec


_SHAPE = {"mass": 0.0, **CONTACT_ROBOT}  # inertias are given, not taken from the shapes


def _add_link(parent: mujoco.MjsBody, number: int, link: Link) -> mujoco.MjsBody:
    half = link.turn_x_rad / 2
    body = parent.add_body(name=f"link{number}", pos=link.origin_m, quat=(math.cos(half), math.sin(half), 0, 0))
    body.explicitinertial = True
    body.mass, body.ipos, body.inertia = link.mass_kg, link.center_m, link.inertia_kg_m2
    body.add_joint(
        name=f"joint{number}",
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=(0, 0, 1),
        range=link.range_rad,
        limited=True,
        armature=0.1,  # the geared motors' rotors, kg m^2 at the joint
    )
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=link.capsule_m, size=(link.radius_m, 0, 0), rgba=_WHITE, **_SHAPE
    )
    return body


# Beside the hand, at its fingers' height: what is in the hand hides little of what is up to 6 cm off below it.
WRIST_CAMERA_M, WRIST_CAMERA_AIM_M, WRIST_CAMERA_FOVY_DEG = (0.1, 0.0, 0.062), (0.0, 0.0, 0.188), 58.0


def camera_quaternion(position_m: Vector3, aim_m: Vector3, up: Vector3) -> tuple[float, float, float, float]:
    """Return the orientation (wxyz) of a camera that looks from one point at another, with `up` upwards."""
    backwards = np.subtract(position_m, aim_m)
    right = np.cross(up, backwards)
    axes = np.column_stack([right, np.cross(backwards, right), backwards])
    w, x, y, z = Rotation.from_matrix(axes / np.linalg.norm(axes, axis=0)).as_quat(scalar_first=True).tolist()
    return w, x, y, z


def _add_hand(link7: mujoco.MjsBody) -> None:
    half = HAND_TURN_RAD / 2
    hand = link7.add_body(name="hand", pos=(0, 0, FLANGE_OFFSET_M), quat=(math.cos(half), 0, 0, math.sin(half)))
    hand.explicitinertial = True
    hand.mass, hand.ipos, hand.inertia = 0.73, (0, 0, 0.03), (0.001, 0.0025, 0.0017)
    hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, 0, 0.03), size=(0.02, 0.1, 0.028), rgba=_WHITE, **_SHAPE)
    hand.add_site(name="tcp", pos=(0, 0, TCP_OFFSET_M), size=(0.003, 0.003, 0.003))
    hand.add_camera(
        name="wrist",
        pos=WRIST_CAMERA_M,
        quat=camera_quaternion(WRIST_CAMERA_M, WRIST_CAMERA_AIM_M, up=(0.0, 0.0, -1.0)),
        fovy=WRIST_CAMERA_FOVY_DEG,
    )
    for side, sign in (("left", 1.0), ("right", -1.0)):
        finger = hand.add_body(name=f"{side}_finger", pos=(0, 0, 0.0584))
        finger.add_joint(
            name=f"{side}_finger",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, sign, 0),
            range=(0, FINGER_STROKE_M),
            limited=True,
            armature=0.1,
        )
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(0, sign * 0.005, 0.026),
            size=(0.01, 0.005, 0.026),
            mass=0.015,
            rgba=_DARK,
            **CONTACT_ROBOT,
        )
