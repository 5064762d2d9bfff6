"""From a reading of the arm to what the policy sees."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64

from serl_core.config import ObservationConfig, ProprioScale, ProprioTerm
from serl_core.geometry import increment, twist_to_local
from serl_core.robots.messages import RobotState
from serl_core.types import Observation

Pose = Float[np.ndarray, "7"]
Numbers = Float64[np.ndarray, " n"]

PROPRIO_BOUND = 50.0
"""Scaled values stay within +-this: far above anything real, so that one bad reading cannot blow up a network."""


def observe(state: RobotState, config: ObservationConfig, origin: Pose) -> Observation:
    """Return the proprioceptive observation, its terms in the config's order.

    Args:
        origin: the frame of `ProprioTerm.TCP_POSE`: the target, or where the episode began.
    """
    terms = [_READ[term](state, config.scale, origin) for term in config.proprio]
    proprio = np.clip(np.concatenate(terms), -PROPRIO_BOUND, PROPRIO_BOUND)
    return Observation(proprio=proprio.astype(np.float32))


def _tcp_pose(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return increment(origin, np.array(state.tcp_pose)) * _halves(scale.per_m, scale.per_rad)


def _tcp_twist(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return _in_tool_frame(state, state.tcp_twist) * _halves(scale.per_m_s, scale.per_rad_s)


def _tcp_wrench(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return _in_tool_frame(state, state.tcp_wrench) * _halves(scale.per_n, scale.per_nm)


def _reference_error(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return increment(np.array(state.tcp_pose), np.array(state.reference_pose)) * _halves(scale.per_m, scale.per_rad)


def _gripper(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return np.array([state.gripper])


def _q(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return np.array(state.q) * scale.per_joint_rad


def _dq(state: RobotState, scale: ProprioScale, origin: Pose) -> Numbers:
    return np.array(state.dq) * scale.per_joint_rad_s


def _in_tool_frame(state: RobotState, base_vector: tuple[float, ...]) -> Numbers:
    return twist_to_local(np.array(state.tcp_pose[3:]), np.array(base_vector))


def _halves(linear: float, angular: float) -> Numbers:
    return np.array([linear] * 3 + [angular] * 3)


_READ: dict[ProprioTerm, Callable[[RobotState, ProprioScale, Pose], Numbers]] = {
    ProprioTerm.TCP_POSE: _tcp_pose,
    ProprioTerm.TCP_TWIST: _tcp_twist,
    ProprioTerm.TCP_WRENCH: _tcp_wrench,
    ProprioTerm.REFERENCE_ERROR: _reference_error,
    ProprioTerm.GRIPPER: _gripper,
    ProprioTerm.Q: _q,
    ProprioTerm.DQ: _dq,
}
