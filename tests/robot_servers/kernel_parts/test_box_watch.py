"""How far outside the box is too far."""

from robot_servers.kernel_parts.box_watch import FURTHER_OUT_M, BoxWatch
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits

LIMITS = SafetyLimits()
EXIT_M = LIMITS.box_high_m[0] + LIMITS.box_exit_m


def at(x, y=0.0, z=0.3):
    return (x, y, z, 1.0, 0.0, 0.0, 0.0)


def test_it_is_clear_where_no_wall_pushes():
    watch = BoxWatch(LIMITS, SoftWall(LIMITS))
    edge_m = LIMITS.box_high_m[0] - LIMITS.soft_wall_m
    for x, is_clear in (
        (0.5, True),
        (edge_m - 1e-4, True),
        (edge_m + 1e-4, False),
        (EXIT_M + 1e-4, False),
        (0.5, True),
    ):
        watch.is_too_far(at(x))
        assert watch.is_clear is is_clear


def test_a_little_outside_is_not_too_far():
    watch = BoxWatch(LIMITS, SoftWall(LIMITS))
    assert not watch.is_too_far(at(0.5))
    assert not watch.is_too_far(at(EXIT_M - 1e-4))
    assert watch.is_too_far(at(EXIT_M + 1e-4))
    assert watch.is_too_far(at(0.5, z=LIMITS.box_low_m[2] - LIMITS.box_exit_m - 1e-4))


def test_after_a_recovery_outside_the_arm_may_come_back_and_go_hardly_further_out():
    watch = BoxWatch(LIMITS, SoftWall(LIMITS))
    watch.recover(at(EXIT_M + 0.03))
    assert not watch.is_too_far(at(EXIT_M + 0.03 + 0.9 * FURTHER_OUT_M))
    assert not watch.is_too_far(at(EXIT_M + 0.01))
    assert watch.is_too_far(at(EXIT_M + 0.03 + 1.1 * FURTHER_OUT_M))


def test_once_it_is_back_the_recovery_is_forgotten():
    for come_back in (lambda watch: watch.is_too_far(at(EXIT_M - 0.001)), lambda watch: watch.is_too_far(at(0.5))):
        watch = BoxWatch(LIMITS, SoftWall(LIMITS))
        watch.recover(at(EXIT_M + 0.03))
        come_back(watch)
        assert watch.is_too_far(at(EXIT_M + 0.001))
