import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import expm

from serl_core import geometry
from tests.serl_core.strategies import poses, quaternions, vectors

CLOSE = 1e-9


def assert_same_rotation(a, b, tolerance=1e-9):
    """Two quaternions stand for one rotation, whatever their signs."""
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(a) * b, -1)), 1.0, atol=tolerance)


def assert_same_pose(a, b):
    np.testing.assert_allclose(a[..., :3], b[..., :3], atol=CLOSE)
    assert_same_rotation(a[..., 3:], b[..., 3:])


@given(quaternions())
def test_a_quaternion_comes_back_from_its_matrix(quaternion):
    assert_same_rotation(geometry.matrix_to_quaternion(geometry.quaternion_to_matrix(quaternion)), quaternion)


@given(quaternions())
def test_a_quaternion_comes_back_from_its_rotation_vector(quaternion):
    vector = geometry.quaternion_to_rotation_vector(quaternion)
    assert np.linalg.norm(vector) <= np.pi + CLOSE
    assert_same_rotation(geometry.rotation_vector_to_quaternion(vector), quaternion)


@given(vectors(3, bound=1.8))
def test_a_rotation_vector_shorter_than_pi_comes_back_from_its_quaternion(vector):
    assume(np.linalg.norm(vector) < np.pi - 1e-3)
    quaternion = geometry.rotation_vector_to_quaternion(vector)
    np.testing.assert_allclose(geometry.quaternion_to_rotation_vector(quaternion), vector, atol=CLOSE)


@given(vectors(3, bound=1.8))
def test_a_rotation_vector_is_the_logarithm_of_its_matrix(vector):
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = geometry.quaternion_to_matrix(geometry.rotation_vector_to_quaternion(vector))
    np.testing.assert_allclose(matrix, expm(cross), atol=1e-8)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_euler_angles_come_back_from_their_quaternion(roll, pitch, yaw):
    euler = np.array([roll, pitch, yaw])
    np.testing.assert_allclose(geometry.quaternion_to_euler(geometry.euler_to_quaternion(euler)), euler, atol=1e-6)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_euler_angles_turn_about_the_fixed_axes_in_the_order_x_y_z(roll, pitch, yaw):
    """Fault 2 of earlier systems: the quaternion was wrong by twice the pitch."""
    turns = [
        geometry.rotation_vector_to_quaternion(np.array(vector))
        for vector in ([roll, 0.0, 0.0], [0.0, pitch, 0.0], [0.0, 0.0, yaw])
    ]
    x, y, z = (geometry.quaternion_to_matrix(turn) for turn in turns)
    matrix = geometry.quaternion_to_matrix(geometry.euler_to_quaternion(np.array([roll, pitch, yaw])))
    np.testing.assert_allclose(matrix, z @ y @ x, atol=CLOSE)


@given(poses())
def test_a_pose_comes_back_from_its_matrix(pose):
    assert_same_pose(geometry.matrix_to_pose(geometry.pose_to_matrix(pose)), pose)


@given(poses(), poses())
def test_compose_multiplies_the_transforms(a, b):
    expected = geometry.pose_to_matrix(a) @ geometry.pose_to_matrix(b)
    np.testing.assert_allclose(geometry.pose_to_matrix(geometry.compose(a, b)), expected, atol=CLOSE)


@given(poses())
def test_a_pose_composed_with_its_inverse_is_the_identity(pose):
    identity = np.array([0.0, 0, 0, 0, 0, 0, 1])
    assert_same_pose(geometry.compose(pose, geometry.inverse(pose)), identity)
    assert_same_pose(geometry.compose(geometry.inverse(pose), pose), identity)


@given(poses(), poses())
def test_a_relative_pose_composed_with_its_reference_is_the_pose(reference, pose):
    assert_same_pose(geometry.compose(reference, geometry.relative(reference, pose)), pose)


@given(poses(), poses(), poses())
def test_a_relative_pose_does_not_depend_on_the_base_frame(base, reference, pose):
    moved = geometry.relative(geometry.compose(base, reference), geometry.compose(base, pose))
    assert_same_pose(moved, geometry.relative(reference, pose))


@given(poses(), poses())
def test_the_increment_from_one_pose_to_another_leads_there(reference, pose):
    assert_same_pose(geometry.apply_increment(reference, geometry.increment(reference, pose)), pose)


@given(poses(), vectors(6))
def test_an_increment_comes_back_after_it_was_applied(reference, step):
    moved = geometry.apply_increment(reference, step)
    np.testing.assert_allclose(geometry.increment(reference, moved), step, atol=CLOSE)


@given(poses(), vectors(3))
def test_a_pure_translation_of_the_tool_does_not_turn_it(reference, displacement):
    """Fault 1 of earlier systems: increments went through the 6x6 adjoint, so a translation also rotated."""
    moved = geometry.apply_increment(reference, np.concatenate([displacement, np.zeros(3)]))
    assert_same_rotation(moved[3:], reference[3:])
    np.testing.assert_allclose(np.linalg.norm(moved[:3] - reference[:3]), np.linalg.norm(displacement), atol=CLOSE)


@given(poses(), vectors(3))
def test_a_pure_rotation_of_the_tool_does_not_move_its_centre(reference, turn):
    moved = geometry.apply_increment(reference, np.concatenate([np.zeros(3), turn]))
    np.testing.assert_array_equal(moved[:3], reference[:3])


@given(quaternions(), quaternions())
def test_slerp_begins_at_the_start_and_ends_at_the_end(start, end):
    assert_same_rotation(geometry.slerp(start, end, 0.0), start)
    assert_same_rotation(geometry.slerp(start, end, 1.0), end)


@given(quaternions(), quaternions(), st.floats(0.0, 1.0))
def test_slerp_turns_at_constant_speed_the_short_way(start, end, fraction):
    """Fault 3 of earlier systems: quaternion components were interpolated linearly."""
    whole = np.linalg.norm(geometry.quaternion_to_rotation_vector(_relative(start, end)))
    part = np.linalg.norm(
        geometry.quaternion_to_rotation_vector(_relative(start, geometry.slerp(start, end, fraction)))
    )
    np.testing.assert_allclose(part, fraction * whole, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(geometry.slerp(start, end, fraction)), 1.0, atol=CLOSE)


@given(quaternions(), quaternions(), st.floats(0.0, 1.0))
def test_slerp_does_not_see_the_sign_of_a_quaternion(start, end, fraction):
    assume(abs(start @ end) > 1e-3)  # half a turn apart both ways are short
    assert_same_rotation(geometry.slerp(start, -end, fraction), geometry.slerp(start, end, fraction))


def test_interpolated_poses_move_along_a_straight_line():
    start = np.array([0.0, 0, 0, 1, 0, 0, 0])
    end = np.array([0.2, 0.1, 0, 0, 1, 0, 0])
    middle = geometry.interpolate(start, end, 0.5)
    np.testing.assert_allclose(middle[:3], [0.1, 0.05, 0.0])
    np.testing.assert_allclose(np.abs(middle[3:]), [np.sqrt(0.5), np.sqrt(0.5), 0, 0], atol=CLOSE)


@given(quaternions(), vectors(6))
def test_a_twist_comes_back_from_the_local_frame(quaternion, twist):
    local = geometry.twist_to_local(quaternion, twist)
    np.testing.assert_allclose(geometry.twist_from_local(quaternion, local), twist, atol=CLOSE)
    np.testing.assert_allclose(np.linalg.norm(local[:3]), np.linalg.norm(twist[:3]), atol=CLOSE)
    np.testing.assert_allclose(np.linalg.norm(local[3:]), np.linalg.norm(twist[3:]), atol=CLOSE)


def test_a_tool_that_points_down_sees_a_push_from_below_against_its_z_axis():
    wrench = np.array([0.0, 0, 10, 0, 0, 1])
    np.testing.assert_allclose(geometry.twist_to_local(geometry.DOWN, wrench), [0, 0, -10, 0, 0, -1], atol=CLOSE)


@given(poses(), vectors(6))
def test_the_adjoint_gives_the_velocity_of_a_body_at_another_point(pose_a_b, twist_b):
    """The whole body moves: the point at a's origin has v + omega x r."""
    matrix = geometry.quaternion_to_matrix(pose_a_b[3:])
    linear, angular = matrix @ twist_b[:3], matrix @ twist_b[3:]
    expected = np.concatenate([linear + np.cross(angular, -pose_a_b[:3]), angular])
    np.testing.assert_allclose(geometry.adjoint(pose_a_b) @ twist_b, expected, atol=CLOSE)


@given(quaternions())
def test_tilt_is_the_angle_of_the_tools_axis_from_straight_down(quaternion):
    axis = geometry.quaternion_to_matrix(quaternion)[:, 2]
    np.testing.assert_allclose(np.cos(geometry.tilt_rad(quaternion)), -axis[2], atol=CLOSE)


@given(quaternions(), st.floats(0.0, 3.1))
def test_a_limited_tilt_is_within_the_limit_and_reached_the_shortest_way(quaternion, max_tilt_rad):
    before = float(geometry.tilt_rad(quaternion))
    limited = geometry.limit_tilt(quaternion, max_tilt_rad)
    assert geometry.tilt_rad(limited) <= max_tilt_rad + 1e-7
    turned = np.linalg.norm(geometry.quaternion_to_rotation_vector(_relative(quaternion, limited)))
    np.testing.assert_allclose(turned, max(0.0, before - max_tilt_rad), atol=1e-7)


def test_a_tool_that_points_straight_up_is_brought_into_the_cone():
    limited = geometry.limit_tilt(np.array([0.0, 0, 0, 1]), 0.5)
    assert geometry.tilt_rad(limited) == pytest.approx(0.5)


@given(poses(), st.floats(-3.0, 3.0))
def test_turning_about_the_bases_vertical_keeps_place_and_tilt(pose, angle_rad):
    turned = geometry.turn_about_base_z(pose, angle_rad)
    np.testing.assert_array_equal(turned[:3], pose[:3])
    np.testing.assert_allclose(geometry.tilt_rad(turned[3:]), geometry.tilt_rad(pose[3:]), atol=1e-7)
    assert geometry.distance(pose, turned)[1] == pytest.approx(abs(angle_rad), abs=1e-7)


@pytest.mark.parametrize("batch", [(5,), (2, 3)])
def test_every_function_takes_leading_batch_dimensions(batch):
    rng = np.random.default_rng(0)

    def random_poses():
        pose = rng.normal(size=(*batch, 7))
        pose[..., 3:] /= np.linalg.norm(pose[..., 3:], axis=-1, keepdims=True)
        return pose

    a, b, step = random_poses(), random_poses(), 0.3 * rng.normal(size=(*batch, 6))
    for whole, one in [
        (geometry.compose(a, b), lambda i: geometry.compose(a[i], b[i])),
        (geometry.inverse(a), lambda i: geometry.inverse(a[i])),
        (geometry.relative(a, b), lambda i: geometry.relative(a[i], b[i])),
        (geometry.apply_increment(a, step), lambda i: geometry.apply_increment(a[i], step[i])),
        (geometry.increment(a, b), lambda i: geometry.increment(a[i], b[i])),
        (geometry.interpolate(a, b, 0.3), lambda i: geometry.interpolate(a[i], b[i], 0.3)),
        (geometry.pose_to_matrix(a), lambda i: geometry.pose_to_matrix(a[i])),
        (geometry.twist_to_local(a[..., 3:], step), lambda i: geometry.twist_to_local(a[i][3:], step[i])),
        (geometry.twist_from_local(a[..., 3:], step), lambda i: geometry.twist_from_local(a[i][3:], step[i])),
        (geometry.adjoint(a), lambda i: geometry.adjoint(a[i])),
        (geometry.tilt_rad(a[..., 3:]), lambda i: geometry.tilt_rad(a[i][3:])),
        (geometry.distance(a, b)[1], lambda i: geometry.distance(a[i], b[i])[1]),
    ]:
        for i in np.ndindex(batch):
            np.testing.assert_allclose(whole[i], one(i), atol=CLOSE)


def _relative(start, end):
    """The rotation from start to end, as a quaternion."""
    origin = np.zeros(3)
    return geometry.relative(np.concatenate([origin, start]), np.concatenate([origin, end]))[3:]
