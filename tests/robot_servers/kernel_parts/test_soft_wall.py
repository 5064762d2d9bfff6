"""The soft wall on its own: a box of 0.2 m, walls of 50 mm and 200 N/m."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits

BOX = {"box_low_m": (0.4, -0.1, 0.1), "box_high_m": (0.6, 0.1, 0.3)}
MIDDLE = (0.5, 0.0, 0.2)


def wall(**options: float) -> SoftWall:
    return SoftWall(SafetyLimits(**{**BOX, **options}))


def at(axis: int, value: float) -> tuple[float, ...]:
    return tuple(value if i == axis else middle for i, middle in enumerate(MIDDLE))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(
    ("inside_m", "force_n"), [(0.06, 0.0), (0.05, 0.0), (0.025, 5.0), (0.0, 10.0), (-0.01, 12.0), (-0.3, 14.0)]
)
def test_the_force_rises_from_the_walls_beginning_to_where_the_arm_is_latched(axis, inside_m, force_n):
    expected = np.zeros(3)
    expected[axis] = force_n
    low, high = BOX["box_low_m"][axis], BOX["box_high_m"][axis]
    np.testing.assert_allclose(wall().force(at(axis, low + inside_m)), expected, atol=1e-9)
    np.testing.assert_allclose(wall().force(at(axis, high - inside_m)), -expected, atol=1e-9)


@pytest.mark.parametrize("option", ["soft_wall_m", "soft_wall_n_m"])
def test_a_zero_switches_it_off_also_outside_the_box(option):
    off = wall(**{option: 0.0})
    assert off.force((0.39, 0.11, 0.3)) == (0.0, 0.0, 0.0)
    assert (off.clear_low_m, off.clear_high_m) == (BOX["box_low_m"], BOX["box_high_m"])


def test_the_walls_of_a_narrow_box_add():
    narrow = wall(box_low_m=(0.48, -0.1, 0.1), box_high_m=(0.52, 0.1, 0.3))
    np.testing.assert_allclose(narrow.force((0.5, 0.0, 0.2)), 0.0, atol=1e-9)
    np.testing.assert_allclose(narrow.force((0.51, 0.0, 0.2)), [200.0 * (0.02 - 0.04), 0.0, 0.0])


def test_the_push_is_in_the_measured_tool_frame():
    tool = Rotation.from_rotvec([0.3, -0.2, 0.9]) * Rotation.from_quat([1.0, 0.0, 0.0, 0.0])
    wrench = wall().wrench((0.41, 0.0, 0.29, *tool.as_quat().tolist()))
    np.testing.assert_allclose(tool.apply(wrench[:3]), [8.0, 0.0, -8.0], atol=1e-9)
    np.testing.assert_array_equal(wrench[3:], 0.0)


def test_an_arm_that_holds_is_pushed_only_from_further_out_until_a_command():
    """Else each stop or recovery near the edge would move the arm by up to force over stiffness."""
    edge = wall()
    edge.hold_at((0.42, 0.08, 0.2))
    assert edge.is_relieved
    assert edge.force((0.42, 0.08, 0.2)) == (0.0, 0.0, 0.0)
    assert edge.force((0.43, 0.07, 0.2)) == (0.0, 0.0, 0.0)
    np.testing.assert_allclose(edge.force((0.41, 0.09, 0.2)), [2.0, -2.0, 0.0])
    np.testing.assert_allclose(edge.force((0.58, -0.08, 0.2)), [-6.0, 6.0, 0.0])  # the opposite walls
    edge.restore()
    assert not edge.is_relieved
    np.testing.assert_allclose(edge.force((0.42, 0.08, 0.2)), [6.0, -6.0, 0.0])


@pytest.mark.parametrize(
    ("measured", "short_m"),
    [
        ((0.405, 0.0, 0.2), 0.0005),  # 9 N against 2000 N/m explain 4.5 mm
        ((0.404, 0.0, 0.2), 0.0),
        ((0.4, 0.0, 0.2), 0.0),  # at the target nothing needs to be explained
        ((0.397, 0.0, 0.2), 0.003),
        ((0.404, 0.003, 0.204), 0.005),
    ],
)
def test_how_far_an_arm_is_short_of_a_target_leaves_out_what_the_force_explains(measured, short_m):
    assert wall().short_m((0.4, 0.0, 0.2), measured, 2000.0) == pytest.approx(short_m, abs=1e-9)
