"""Which gains the kernel lets through, and with which an arm starts."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_servers.impedance_limits import check_impedance, common_cap, initial_impedance
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.config import TaskConfig
from serl_core.errors import ConfigError
from serl_core.robots.messages import ImpedanceParams

LIMITS = SafetyLimits()


def test_the_gains_a_task_uses_by_default_are_allowed():
    task = TaskConfig.__dataclass_fields__["precision"].default_factory
    check_impedance(ImpedanceParams(), LIMITS)
    check_impedance(task(), LIMITS)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"translational_stiffness_n_m": 3001.0}, "translational_stiffness_n_m"),
        ({"translational_stiffness_n_m": 49.0}, "translational_stiffness_n_m"),
        ({"translational_stiffness_n_m": math.nan}, "translational_stiffness_n_m"),
        ({"rotational_stiffness_nm_rad": 301.0}, "rotational_stiffness_nm_rad"),
        ({"translational_damping_ns_m": 0.0}, "translational_damping_ns_m"),
        ({"translational_damping_ns_m": 400.0}, "translational_damping_ns_m"),
        ({"rotational_damping_nms_rad": 0.0}, "rotational_damping_nms_rad"),
        ({"translational_ki": 6.0}, "translational_ki"),
        ({"rotational_ki": -1.0}, "rotational_ki"),
        ({"nullspace_stiffness_nm_rad": 101.0}, "nullspace_stiffness_nm_rad"),
        ({"translational_clip_m": (0.008,) * 5 + (0.1,)}, "translational_clip_m[5]"),
        ({"translational_clip_m": (0.008, math.nan) + (0.008,) * 4}, "translational_clip_m[1]"),
        ({"rotational_clip_rad": (0.05,) * 3 + (0.2,) + (0.05,) * 2}, "rotational_clip_rad[3]"),
        # each alone is allowed: 3000 N/m * 18 mm = 54 N, and 2000 N/m * 15 mm / 89 Ns/m = 0.34 m/s
        (
            {
                "translational_stiffness_n_m": 3000.0,
                "translational_damping_ns_m": 160.0,
                "translational_clip_m": (0.001,) * 2 + (0.018,) + (0.001,) * 3,
            },
            "translational_clip_m",
        ),
        ({"translational_clip_m": (0.015,) + (0.008,) * 5}, "translational_clip_m[0]"),
        (
            {
                "rotational_stiffness_nm_rad": 290.0,
                "rotational_damping_nms_rad": 10.0,
                "rotational_clip_rad": (0.09,) + (0.05,) * 5,
            },
            "rotational_clip_rad[0]",
        ),
    ],
)
def test_gains_outside_the_envelope_are_refused_by_their_name(change, field):
    with pytest.raises(Refusal) as refused:
        check_impedance(msgspec.structs.replace(ImpedanceParams(), **change), LIMITS)
    assert refused.value.field == f"params.{field}"


def test_the_spring_s_force_is_bounded_for_three_axes_together_each_by_its_wider_clip():
    """Each axis alone was: three together reached 1.7 times the limit."""
    along = {"translational_stiffness_n_m": 3000.0, "translational_damping_ns_m": 160.0}

    def check(*clips: float) -> None:
        check_impedance(msgspec.structs.replace(ImpedanceParams(), translational_clip_m=clips, **along), LIMITS)

    check(0.0086, 0.0086, 0.0086, 0.0086, 0.0086, 0.0086)  # 44.7 N
    check(0.0133, 0.001, 0.0005, 0.0068, 0.001, 0.001)  # 44.9 N: what is left by a narrow axis is for the others
    for clips in (
        (0.0087,) * 6,
        (0.0133, 0.001, 0.001, 0.0071, 0.001, 0.001),
        (0.0133, 0.001, 0.0005, 0.0069, 0.001, 0.004),
    ):
        with pytest.raises(Refusal, match=r"together must be at most 45 N, got 4.* N; use a smaller clip") as refused:
            check(*clips)
        assert refused.value.field == "params.translational_clip_m"
        assert refused.value.given > refused.value.limit == 45.0


@given(st.tuples(*[st.floats(0.0, 1e3)] * 3), st.floats(1e-3, 1e3))
def test_a_common_cap_takes_from_the_largest_as_little_as_is_needed(sizes, most):
    cap = common_cap(sizes, most)
    total = math.hypot(*sizes)
    capped = math.hypot(*(min(size, cap) for size in sizes))
    if math.isinf(cap):
        assert total <= most * (1.0 + 1e-9)
    else:
        assert cap < max(sizes)
        assert capped == pytest.approx(most)
    assert cap >= most / math.sqrt(3.0) * (1.0 - 1e-9)


def test_the_default_limits_start_with_the_default_gains():
    assert initial_impedance(SafetyLimits()) == ImpedanceParams()


@pytest.mark.parametrize(
    "limits",
    [
        SafetyLimits(stiffness_n_m=(50.0, 700.0)),
        SafetyLimits(stiffness_nm_rad=(1.0, 40.0), nullspace_stiffness_nm_rad=(0.0, 5.0)),
        SafetyLimits(clip_m=(0.0005, 0.003), clip_rad=(0.005, 0.01)),
        SafetyLimits(spring_force_n=7.0, spring_torque_nm=2.0),
        SafetyLimits(speed_m_s=0.05),
    ],
)
def test_tighter_limits_start_with_softer_gains(limits):
    """The arm held with the default gains, whatever the limits file said, until somebody set others."""
    params = initial_impedance(limits)
    assert params != ImpedanceParams()
    check_impedance(params, limits)


def test_limits_that_allow_no_gains_as_soft_as_the_default_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"limits: .*translational_stiffness_n_m must be 2500 to 3000, got 2000"):
        initial_impedance(SafetyLimits(stiffness_n_m=(2500.0, 3000.0)))
