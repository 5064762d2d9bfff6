import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_servers.arm_parts.spring_target import spring_target
from robot_servers.backend import Reference
from robot_servers.rotations import half_turn
from robot_servers.sim.impedance import ImpedanceLaw
from serl_core.robots.messages import ImpedanceParams

CLIPS_M = (0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
CLIPS_RAD = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)
PARAMS = ImpedanceParams(
    translational_clip_m=CLIPS_M, rotational_clip_rad=CLIPS_RAD, nullspace_stiffness_nm_rad=0.0
)  # fmt: skip

metres = st.floats(-0.05, 0.05)
turns = st.tuples(*[st.floats(-0.2, 0.2)] * 3)
places = st.tuples(metres, metres, metres)
wrenches = st.none() | st.tuples(*[st.floats(-20.0, 20.0)] * 3, *[st.floats(-3.0, 3.0)] * 3)


def pose(place, turn):
    start = Rotation.from_quat([1.0, 0.0, 0.0, 0.0])
    return (*place, *(Rotation.from_rotvec(turn) * start).as_quat().tolist())


def pull(target, measured):
    """What a plain impedance controller does: K times the error, half the angle."""
    linear = PARAMS.translational_stiffness_n_m * (np.array(target[:3]) - np.array(measured[:3]))
    return np.array([*linear, *(PARAMS.rotational_stiffness_nm_rad * e for e in half_turn(target[3:], measured[3:]))])


@given(places, turns, places, turns, wrenches)
def test_a_plain_spring_to_the_target_pulls_as_the_impedance_law_does(place, turn, at, tool_turn, wrench):
    reference, measured = pose(place, turn), pose(at, tool_turn)
    law = ImpedanceLaw(PARAMS, target_filter_s=0.0)
    position, quaternion = np.array(measured[:3]), np.array(measured[3:])
    law.restart(position, quaternion)
    law.follow(Reference(np.array(reference[:3]), np.array(reference[3:])))
    lever = np.eye(6, 7)  # six joints, each of which moves the tool along one axis
    push = None if wrench is None else np.array(wrench)
    wanted = law.torque(position, quaternion, np.zeros(7), np.zeros(7), lever, push)[:6]
    given_pull = pull(spring_target(reference, measured, PARAMS, wrench), measured)
    np.testing.assert_allclose(given_pull, wanted, atol=1e-6)


def test_a_reference_inside_the_clip_is_the_target():
    reference, measured = pose((0.0005, 0.0, 0.0), (0.01, 0.0, 0.0)), pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(spring_target(reference, measured, PARAMS), reference, atol=1e-12)


def test_each_sign_of_each_axis_has_its_own_clip():
    here = pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    for axis in range(3):
        for sign, side in ((-1.0, 0), (1.0, 1)):
            place = tuple(sign * 0.05 if i == axis else 0.0 for i in range(3))
            assert spring_target(pose(place, (0.0, 0.0, 0.0)), here, PARAMS)[axis] == sign * CLIPS_M[2 * axis + side]
            turn = tuple(sign * 0.5 if i == axis else 0.0 for i in range(3))
            target = spring_target(pose((0.0, 0.0, 0.0), turn), here, PARAMS)
            half = half_turn(target[3:], here[3:])[axis]
            assert math.isclose(half, sign * CLIPS_RAD[2 * axis + side], abs_tol=1e-9)


def test_the_target_is_a_unit_quaternion_whatever_the_torque():
    soft = ImpedanceParams(rotational_stiffness_nm_rad=1.0)
    target = spring_target(pose((0, 0, 0), (1, 1, 1)), pose((0, 0, 0), (0, 0, 0)), soft, (0, 0, 0, 5.0, 5.0, 5.0))
    assert math.isclose(math.hypot(*target[3:]), 1.0)
