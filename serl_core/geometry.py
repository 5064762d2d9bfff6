"""Poses, rotations, twists and frames: the only file that converts rotations (scipy's Rotation inside).

A pose is x y z qx qy qz qw (m, unit quaternion); `T_a_b` or "pose of b in a" maps b's coordinates to
a's. A rotation vector is axis times angle, in rad. Everything takes leading batch dimensions ``*b``.
Murray, Li and Sastry, "A Mathematical Introduction to Robotic Manipulation" (1994), chapter 2.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

Pose = Float[np.ndarray, "*b 7"]
Quaternion = Float[np.ndarray, "*b 4"]
Vector = Float[np.ndarray, "*b 3"]
RotationMatrix = Float[np.ndarray, "*b 3 3"]
Transform = Float[np.ndarray, "*b 4 4"]
Twist = Float[np.ndarray, "*b 6"]  # linear, then angular; a wrench (force, then torque) has the same shape
Scalar = Float[np.ndarray, "*b"] | float  # a float when there is no batch

DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # the tool's z axis along the base's -z
DOWN.flags.writeable = False


def quaternion_to_matrix(quaternion: Quaternion) -> RotationMatrix:
    """Return the rotation matrix of a quaternion."""
    return Rotation.from_quat(quaternion).as_matrix()


def matrix_to_quaternion(matrix: RotationMatrix) -> Quaternion:
    """Return the unit quaternion of a rotation matrix, with qw >= 0."""
    return Rotation.from_matrix(matrix).as_quat(canonical=True)


def quaternion_to_rotation_vector(quaternion: Quaternion) -> Vector:
    """Return the rotation vector, the short way round: at most pi long."""
    return Rotation.from_quat(quaternion).as_rotvec()


def rotation_vector_to_quaternion(vector: Vector) -> Quaternion:
    """Return the unit quaternion of a rotation vector, with qw >= 0."""
    return Rotation.from_rotvec(vector).as_quat(canonical=True)


def quaternion_to_euler(quaternion: Quaternion) -> Vector:
    """Return roll, pitch, yaw: rotations about the fixed x, then y, then z axis.

    At pitch +-pi/2 roll and yaw are not unique: scipy warns and sets yaw to 0.
    """
    return Rotation.from_quat(quaternion).as_euler("xyz")


def euler_to_quaternion(euler: Vector) -> Quaternion:
    """Return the unit quaternion of roll, pitch, yaw about the fixed axes, with qw >= 0."""
    return Rotation.from_euler("xyz", euler).as_quat(canonical=True)


def pose_to_matrix(pose: Pose) -> Transform:
    """Return the homogeneous transform of a pose."""
    matrix = np.zeros((*pose.shape[:-1], 4, 4))
    matrix[..., :3, :3] = quaternion_to_matrix(pose[..., 3:])
    matrix[..., :3, 3] = pose[..., :3]
    matrix[..., 3, 3] = 1.0
    return matrix


def matrix_to_pose(matrix: Transform) -> Pose:
    """Return the pose of a homogeneous transform."""
    return np.concatenate([matrix[..., :3, 3], matrix_to_quaternion(matrix[..., :3, :3])], axis=-1)


def compose(pose_a_b: Pose, pose_b_c: Pose) -> Pose:
    """Return the pose of c in a, from b in a and c in b."""
    rotation = Rotation.from_quat(pose_a_b[..., 3:])
    position = pose_a_b[..., :3] + rotation.apply(pose_b_c[..., :3])
    quaternion = (rotation * Rotation.from_quat(pose_b_c[..., 3:])).as_quat(canonical=True)
    return np.concatenate([position, quaternion], axis=-1)


def inverse(pose_a_b: Pose) -> Pose:
    """Return the pose of a in b, from that of b in a."""
    rotation = Rotation.from_quat(pose_a_b[..., 3:]).inv()
    return np.concatenate([-rotation.apply(pose_a_b[..., :3]), rotation.as_quat(canonical=True)], axis=-1)


def relative(reference: Pose, pose: Pose) -> Pose:
    """Return `pose` as seen from `reference`, both given in one frame: inverse(reference) * pose."""
    rotation = Rotation.from_quat(reference[..., 3:]).inv()
    position = rotation.apply(pose[..., :3] - reference[..., :3])
    quaternion = (rotation * Rotation.from_quat(pose[..., 3:])).as_quat(canonical=True)
    return np.concatenate([position, quaternion], axis=-1)


def increment(reference: Pose, pose: Pose) -> Twist:
    """Return the step from `reference` to `pose` in reference's axes: displacement, then rotation vector.

    The inverse of `apply_increment`. Position and rotation stay separate (the block map diag(R, R)),
    so a pure translation never turns the tool.
    """
    rotation = Rotation.from_quat(reference[..., 3:]).inv()
    position = rotation.apply(pose[..., :3] - reference[..., :3])
    turn = (rotation * Rotation.from_quat(pose[..., 3:])).as_rotvec()
    return np.concatenate([position, turn], axis=-1)


def apply_increment(reference: Pose, step: Twist) -> Pose:
    """Return `reference` moved by `step`, given in reference's axes: p + R dp, and R exp(dr)."""
    rotation = Rotation.from_quat(reference[..., 3:])
    position = reference[..., :3] + rotation.apply(step[..., :3])
    quaternion = (rotation * Rotation.from_rotvec(step[..., 3:])).as_quat(canonical=True)
    return np.concatenate([position, quaternion], axis=-1)


def distance(pose_a: Pose, pose_b: Pose) -> tuple[Scalar, Scalar]:
    """Return how far two poses are apart: in m, and as the angle of the short rotation in rad."""
    step = increment(pose_a, pose_b)
    return np.linalg.norm(step[..., :3], axis=-1), np.linalg.norm(step[..., 3:], axis=-1)


def slerp(start: Quaternion, end: Quaternion, fraction: float) -> Quaternion:
    """Return the rotation at `fraction` of the way at constant angular speed, the short way round."""
    rotation = Rotation.from_quat(start)
    turn = (rotation.inv() * Rotation.from_quat(end)).as_rotvec()
    return (rotation * Rotation.from_rotvec(fraction * turn)).as_quat(canonical=True)


def interpolate(start: Pose, end: Pose, fraction: float) -> Pose:
    """Return the pose at `fraction` of the way: a straight line for the position, slerp for the rotation."""
    position = start[..., :3] + fraction * (end[..., :3] - start[..., :3])
    return np.concatenate([position, slerp(start[..., 3:], end[..., 3:], fraction)], axis=-1)


def twist_to_local(quaternion: Quaternion, twist: Twist) -> Twist:
    """Return a twist or wrench in the local axes, from the axes that `quaternion` is given in.

    The point it refers to stays the same: both halves only turn (the block map diag(R^T, R^T)).
    """
    matrix = quaternion_to_matrix(quaternion)
    halves = twist.reshape(*twist.shape[:-1], 2, 3) @ matrix
    return halves.reshape(twist.shape)


def twist_from_local(quaternion: Quaternion, twist: Twist) -> Twist:
    """Return a twist or wrench from local axes: the inverse of `twist_to_local`."""
    matrix = quaternion_to_matrix(quaternion)
    halves = twist.reshape(*twist.shape[:-1], 2, 3) @ np.swapaxes(matrix, -1, -2)
    return halves.reshape(twist.shape)


def adjoint(pose_a_b: Pose) -> Float[np.ndarray, "*b 6 6"]:
    """Return the map of a rigid body's twist at b's origin, in b, to the same body's at a's origin, in a.

    Only for velocities of one body at another point: [[R, p^ R], [0, R]]. An increment of a pose is
    not such a twist: use `apply_increment`.
    """
    matrix = quaternion_to_matrix(pose_a_b[..., 3:])
    x, y, z = pose_a_b[..., 0], pose_a_b[..., 1], pose_a_b[..., 2]
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(matrix.shape)
    result = np.zeros((*pose_a_b.shape[:-1], 6, 6))
    result[..., :3, :3] = matrix
    result[..., :3, 3:] = cross @ matrix
    result[..., 3:, 3:] = matrix
    return result


def tilt_rad(quaternion: Quaternion) -> Scalar:
    """Return the angle between the tool's z axis and straight down, 0 to pi."""
    x, y, z, w = np.moveaxis(quaternion, -1, 0)
    # Half-angle form: exact also near 0 and pi, where arccos of the matrix element loses digits.
    return 2.0 * np.arctan2(np.hypot(z, w), np.hypot(x, y))


def limit_tilt(quaternion: Float[np.ndarray, "4"], max_tilt_rad: float) -> Float[np.ndarray, "4"]:
    """Return the rotation turned back the shortest way into the cone of `max_tilt_rad` about straight down."""
    excess_rad = tilt_rad(quaternion) - max_tilt_rad
    if excess_rad <= 0:
        return quaternion
    rotation = Rotation.from_quat(quaternion)
    zx, zy, _ = rotation.as_matrix()[:, 2]  # the tool's z axis in the base
    axis = np.array([-zy, zx, 0.0])  # z cross down: turning about it lowers the tool's z axis
    length = np.hypot(zx, zy)
    axis = axis / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])  # upside down: any way is the shortest
    return (Rotation.from_rotvec(excess_rad * axis) * rotation).as_quat(canonical=True)


def turn_about_base_z(pose: Pose, angle_rad: float) -> Pose:
    """Return the pose turned in place by `angle_rad` about the base's vertical axis."""
    turn = Rotation.from_rotvec(np.array([0.0, 0.0, angle_rad]))
    quaternion = (turn * Rotation.from_quat(pose[..., 3:])).as_quat(canonical=True)
    return np.concatenate([pose[..., :3], quaternion], axis=-1)
