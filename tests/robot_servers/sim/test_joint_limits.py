import numpy as np
import pytest

from robot_servers.sim.joint_limits import LARGEST_TORQUE_NM, MARGIN_RAD, repulsion
from robot_servers.sim.model import LINKS, REST_Q


def test_in_the_middle_of_its_range_no_joint_is_pushed():
    np.testing.assert_array_equal(repulsion(np.array(REST_Q)), 0.0)


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize(("end", "sign"), [(0, 1.0), (1, -1.0)])
def test_near_a_limit_the_joint_alone_is_pushed_back_with_at_most_five_newton_metres(joint, end, sign):
    """The simulated arm ran against its mechanical ends unhindered."""
    for inside_rad, share in ((MARGIN_RAD, 0.0), (0.05, 0.5), (0.0, 1.0), (-0.2, 1.0)):
        q = np.array(REST_Q)
        q[joint] = LINKS[joint].range_rad[end] + sign * inside_rad
        expected = np.zeros(7)
        expected[joint] = sign * share * LARGEST_TORQUE_NM
        np.testing.assert_allclose(repulsion(q), expected, atol=1e-9)
