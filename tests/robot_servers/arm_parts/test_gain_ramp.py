import math

import msgspec
import pytest

from robot_servers.arm_parts.gain_ramp import RAMP_S, GainRamp, check_no_integral
from robot_servers.limits import Refusal
from serl_core.robots.messages import ImpedanceParams

SOFT = msgspec.structs.replace(
    ImpedanceParams(), translational_stiffness_n_m=500.0, translational_clip_m=(0.02,) * 6
)  # fmt: skip


def test_the_way_is_first_order_with_a_tenth_of_a_second():
    ramp = GainRamp(ImpedanceParams())
    ramp.set_goal(SOFT)
    for _ in range(25):
        params = ramp.advance(RAMP_S / 25, may_rise=True)
    assert params.translational_stiffness_n_m == pytest.approx(500.0 + 1500.0 * math.exp(-1.0))


def test_it_arrives_at_exactly_what_was_asked_for():
    ramp = GainRamp(ImpedanceParams())
    ramp.set_goal(SOFT)
    ticks = 0
    while not ramp.is_settled:
        ramp.advance(0.004, may_rise=True)
        ticks += 1
    assert ramp.params == SOFT
    assert ticks > 100


def test_the_force_of_the_clipped_spring_never_exceeds_that_of_both_ends():
    """Stiffness falls while the clip grows: ramping each by itself would make the product overshoot."""
    ramp = GainRamp(ImpedanceParams())
    ramp.set_goal(SOFT)
    while not ramp.is_settled:
        params = ramp.advance(0.004, may_rise=True)
        force = params.translational_stiffness_n_m * params.translational_clip_m[0]
        assert 10.0 - 1e-9 <= force <= 16.0 + 1e-9


def test_nothing_rises_unless_it_may_and_what_falls_goes_on_falling():
    ramp = GainRamp(ImpedanceParams())
    mixed = msgspec.structs.replace(ImpedanceParams(), translational_stiffness_n_m=2500.0, nullspace_stiffness_nm_rad=1)
    ramp.set_goal(mixed)
    params = ramp.advance(0.05, may_rise=False)
    assert params.translational_stiffness_n_m == 2000.0
    assert params.nullspace_stiffness_nm_rad < 10.0
    assert not ramp.is_settled
    assert ramp.advance(0.05, may_rise=True).translational_stiffness_n_m > 2000.0


def test_an_integral_names_its_field_and_the_arm():
    check_no_integral(ImpedanceParams(), "the Panda")
    wrong = msgspec.structs.replace(ImpedanceParams(), rotational_ki=0.1)
    with pytest.raises(Refusal, match=r"rotational_ki: the impedance law of the Panda has no .*got 0\.1") as error:
        check_no_integral(wrong, "the Panda")
    assert error.value.field == "params.rotational_ki"
