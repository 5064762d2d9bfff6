import numpy as np
import pytest

from robot_servers.sim.joint_reset import CLIP_RAD, DAMPING_NMS_RAD, SPEED_RAD_S, STIFFNESS_NM_RAD, JointReset
from robot_servers.sim.model import PERIOD_S, REST_Q

STILL = np.zeros(7)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_torque_of_a_blocked_joint_reset_is_bounded_and_the_block_is_noticed(sign):
    """The spring's torque grew with the error up to the motors' limit: 86 Nm against whatever was in the way."""
    q = np.array(REST_Q) + sign * 0.8
    reset = JointReset(q)
    bound = np.array(STIFFNESS_NM_RAD) * CLIP_RAD + np.array(DAMPING_NMS_RAD) * SPEED_RAD_S
    ticks = 0
    while not reset.is_blocked:
        assert (np.abs(reset.torque(q, STILL)) <= bound + 1e-9).all()
        ticks += 1
    assert ticks * PERIOD_S == pytest.approx(1.0, abs=0.01)  # 0.1 rad behind after 0.5 s, and 0.5 s more


def test_an_arm_that_follows_is_not_blocked_and_neither_is_one_that_is_held_back_for_a_moment():
    start = np.array(REST_Q) + 0.8
    q, reset = start, JointReset(start)
    for tick in range(5000):
        reset.torque(q, STILL)
        is_held_back = 1000 <= tick < 1700
        if not is_held_back:  # it catches up at twice the speed
            reference = np.maximum(start - SPEED_RAD_S * PERIOD_S * tick, REST_Q)
            q = np.maximum(q - 2 * SPEED_RAD_S * PERIOD_S, reference)
    assert not reset.is_blocked
    assert reset.error_rad(q) < 0.01
