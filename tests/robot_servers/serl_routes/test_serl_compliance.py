"""HIL-SERL's compliance parameters inside the kernel's envelope: every wish becomes gains that the kernel allows."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_servers.impedance_limits import check_impedance
from robot_servers.limits import Refusal, SafetyLimits
from robot_servers.serl_routes.compliance import CLIP_ENDS, Compliance, clamp, wrench_impedance
from serl_core.robots.messages import ImpedanceParams

LIMITS = SafetyLimits()
TIGHT = SafetyLimits(speed_m_s=0.1, spring_force_n=15.0, stiffness_n_m=(200.0, 1500.0), wrench_force_n=5.0)
RANGES = {  # of REFERENCE section 4, and beyond
    name: st.floats(-10.0, 1e4) for name in Compliance.__struct_fields__
} | {f"translational_clip_{end}": st.floats(-0.1, 0.2) for end in CLIP_ENDS}


@given(st.fixed_dictionaries({}, optional=RANGES), st.sampled_from([LIMITS, TIGHT]))
def test_whatever_is_asked_for_the_kernel_allows_what_comes_out(wanted, limits):
    params, _ = clamp(msgspec.convert(wanted, Compliance), limits)
    check_impedance(params, limits)


@given(st.fixed_dictionaries({}, optional=RANGES))
def test_what_is_inside_already_stays_and_nothing_is_said(wanted):
    params, _ = clamp(msgspec.convert(wanted, Compliance), LIMITS)
    again = Compliance(
        translational_stiffness=params.translational_stiffness_n_m,
        translational_damping=params.translational_damping_ns_m,
        rotational_stiffness=params.rotational_stiffness_nm_rad,
        rotational_damping=params.rotational_damping_nms_rad,
        nullspace_stiffness=params.nullspace_stiffness_nm_rad,
        translational_Ki=params.translational_ki,
        rotational_Ki=params.rotational_ki,
        **{f"translational_clip_{end}": clip for end, clip in zip(CLIP_ENDS, params.translational_clip_m, strict=True)},
        **{f"rotational_clip_{end}": clip for end, clip in zip(CLIP_ENDS, params.rotational_clip_rad, strict=True)},
    )
    assert clamp(again, LIMITS) == (params, ())


def test_the_original_defaults_pass_untouched():
    params, changes = clamp(Compliance(), LIMITS)
    assert changes == ()
    assert params == ImpedanceParams(translational_clip_m=(0.01,) * 6)


def test_the_clips_keep_their_meaning_and_not_their_names():
    """HIL-SERL clips measured - target, so its positive clip bounds the force towards the negative side."""
    params, changes = clamp(Compliance(translational_clip_x=0.007, translational_clip_neg_z=0.002), LIMITS)
    assert changes == ()
    assert params.translational_clip_m == (0.007, 0.01, 0.01, 0.01, 0.01, 0.002)
    params, _ = clamp(Compliance(rotational_clip_y=0.02), LIMITS)
    assert params.rotational_clip_rad == (0.05, 0.05, 0.02, 0.05, 0.05, 0.05)


def test_the_precision_mode_that_reaches_200_n_and_2_m_s_is_brought_to_a_quarter_metre_per_second():
    wide = {f"translational_clip_{end}": 0.1 for end in CLIP_ENDS}
    params, changes = clamp(Compliance(**wide), LIMITS)
    assert params.translational_clip_m == pytest.approx((0.25 * 89.0 / 2000.0,) * 6)
    assert len(changes) == 6
    assert changes[0] == "translational_clip_x 0.1 to 0.01112"


def test_clips_too_wide_together_are_cut_to_one_width_and_a_narrow_one_stays():
    wide = {f"translational_clip_{end}": 0.02 for end in CLIP_ENDS} | {"translational_clip_z": 0.001}
    stiff = Compliance(translational_stiffness=3000.0, translational_damping=160.0, **wide)
    params, changes = clamp(stiff, LIMITS)
    assert params.translational_clip_m == pytest.approx(
        (45.0 / 3.0**0.5 / 3000.0,) * 4 + (0.001,) + (45.0 / 3.0**0.5 / 3000.0,)
    )
    assert changes[0] == "translational_clip_x 0.02 to 0.00866"
    both = msgspec.structs.replace(stiff, translational_clip_neg_z=0.001)
    params, _ = clamp(both, LIMITS)
    assert max(params.translational_clip_m) * 3000.0 == pytest.approx(((45.0**2 - 3.0**2) / 2.0) ** 0.5)


def test_no_damping_becomes_the_least_damping():
    params, changes = clamp(Compliance(translational_damping=0.0), LIMITS)
    assert params.translational_damping_ns_m == pytest.approx(0.7 * 2.0 * 2000.0**0.5, abs=1e-3)
    assert changes[0] == "translational_damping 0 to 62.61"


def test_limits_that_allow_no_gains_at_all_are_a_refusal():
    with pytest.raises(Refusal, match="stiffness \\* the widest clips"):
        clamp(Compliance(), SafetyLimits(spring_force_n=0.01))


@pytest.mark.parametrize("limits", [LIMITS, TIGHT])
def test_in_wrench_mode_the_spring_is_weak_and_the_damping_keeps_the_largest_wrench_below_the_speed_limit(limits):
    params = wrench_impedance(limits)
    check_impedance(params, limits)
    assert params.translational_stiffness_n_m * max(params.translational_clip_m) < 1.0
    assert params.rotational_stiffness_nm_rad * max(params.rotational_clip_rad) < 0.5
    assert limits.wrench_force_n / params.translational_damping_ns_m < limits.speed_m_s
