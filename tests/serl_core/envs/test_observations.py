import dataclasses

import msgspec
import numpy as np
from hypothesis import given

from examples.ram_insertion import CONFIG
from serl_core.config import ObservationConfig, ProprioScale, ProprioTerm
from serl_core.envs.observations import PROPRIO_BOUND, observe
from serl_core.geometry import DOWN, compose
from serl_core.testing.fakes import FakeRobot
from tests.serl_core.strategies import poses

UNIT = ProprioScale(
    per_m=1.0, per_rad=1.0, per_m_s=1.0, per_rad_s=1.0, per_n=1.0, per_nm=1.0, per_joint_rad=1.0, per_joint_rad_s=1.0
)
STATE = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
BASE = np.array([0.0, 0, 0, 0, 0, 0, 1])


def terms(state, *wanted, origin=BASE, scale=UNIT):
    """Return the proprioceptive vector of the wanted terms."""
    return observe(state, ObservationConfig(proprio=wanted, scale=scale), origin).proprio


def state_with(**values):
    return msgspec.structs.replace(STATE, **values)


def test_every_term_has_its_declared_length_and_the_order_of_the_config():
    state = state_with(q=(1.0,) * 7, dq=(2.0,) * 7, gripper=0.25)
    for term in ProprioTerm:
        assert terms(state, term).size == term.size
    np.testing.assert_array_equal(
        terms(state, ProprioTerm.DQ, ProprioTerm.GRIPPER, ProprioTerm.Q), [2.0] * 7 + [0.25] + [1.0] * 7
    )


def test_the_pose_is_seen_from_the_origin():
    state = state_with(tcp_pose=(0.5, 0.1, 0.2, *DOWN.tolist()))
    origin = np.array([0.5, 0.0, 0.1, *DOWN])
    # The tool points down: the base's +y is its -y, and up is its -z.
    np.testing.assert_allclose(terms(state, ProprioTerm.TCP_POSE, origin=origin), [0, -0.1, -0.1, 0, 0, 0], atol=1e-7)


@given(poses(), poses(), poses())
def test_the_relative_pose_does_not_depend_on_where_the_robot_stands(base, origin, pose):
    before = terms(state_with(tcp_pose=tuple(pose.tolist())), ProprioTerm.TCP_POSE, origin=origin)
    moved = state_with(tcp_pose=tuple(compose(base, pose).tolist()))
    after = terms(moved, ProprioTerm.TCP_POSE, origin=compose(base, origin))
    np.testing.assert_allclose(after[:3], before[:3], atol=1e-6)
    # At half a turn the rotation vector may point either way.
    if np.linalg.norm(before[3:]) < np.pi - 1e-3:
        np.testing.assert_allclose(after[3:], before[3:], atol=1e-5)


def test_twist_and_wrench_are_in_the_tools_axes():
    values = {"tcp_twist": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "tcp_wrench": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}
    seen = terms(state_with(**values), ProprioTerm.TCP_TWIST, ProprioTerm.TCP_WRENCH)
    flipped = [0.1, -0.2, -0.3, 0.4, -0.5, -0.6]  # half a turn about x
    np.testing.assert_allclose(seen, [*flipped, *(10 * np.array(flipped))], atol=1e-6)


def test_the_reference_error_is_the_set_point_seen_from_the_measured_pose():
    state = state_with(tcp_pose=(0.5, 0.0, 0.1, *DOWN.tolist()), reference_pose=(0.5, 0.0, 0.09, *DOWN.tolist()))
    np.testing.assert_allclose(terms(state, ProprioTerm.REFERENCE_ERROR), [0, 0, 0.01, 0, 0, 0], atol=1e-7)


def test_each_unit_is_multiplied_by_its_scale():
    scale = dataclasses.replace(UNIT, per_n=0.02, per_nm=0.2)
    state = state_with(tcp_wrench=(10.0, 0.0, 0.0, 1.0, 0.0, 0.0))
    np.testing.assert_allclose(terms(state, ProprioTerm.TCP_WRENCH, scale=scale), [0.2, 0, 0, 0.2, 0, 0], atol=1e-7)


def test_one_absurd_reading_stays_within_the_bound():
    state = state_with(tcp_wrench=(1e9, 0.0, 0.0, 0.0, 0.0, -1e9))
    seen = terms(state, ProprioTerm.TCP_WRENCH)
    assert np.abs(seen).max() == PROPRIO_BOUND
    assert seen.dtype == np.float32
