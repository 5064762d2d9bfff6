"""Random poses, rotations and twists for the property tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

unit = st.floats(-1.0, 1.0)


@st.composite
def quaternions(draw):
    """Any rotation, also the identity, half turns, and either sign of the quaternion."""
    numbers = draw(hnp.arrays(float, 4, elements=unit).filter(lambda q: np.linalg.norm(q) > 1e-3))
    return numbers / np.linalg.norm(numbers)


@st.composite
def poses(draw):
    return np.concatenate([draw(hnp.arrays(float, 3, elements=unit)), draw(quaternions())])


@st.composite
def downward_poses(draw, max_tilt_rad=0.4):
    """Poses of a tool that points about downwards, with any yaw."""
    position = draw(hnp.arrays(float, 3, elements=unit))
    tilt = draw(st.floats(0.0, max_tilt_rad))
    heading, yaw = draw(st.floats(-np.pi, np.pi)), draw(st.floats(-np.pi, np.pi))
    axis = np.array([np.cos(heading), np.sin(heading), 0.0])
    rotation = Rotation.from_rotvec(tilt * axis) * Rotation.from_rotvec([0, 0, yaw]) * Rotation.from_quat([1, 0, 0, 0])
    return np.concatenate([position, rotation.as_quat()])


def vectors(size, bound=1.0):
    return hnp.arrays(float, size, elements=st.floats(-bound, bound))
