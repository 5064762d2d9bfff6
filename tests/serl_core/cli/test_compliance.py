"""The computed impedance against the server's own check, for any limits and any wish."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_servers.impedance_limits import check_impedance
from robot_servers.limits import Refusal, SafetyLimits
from serl_core.cli.allowed_impedance import nearest_allowed
from serl_core.cli.compliance import compliance_for
from serl_core.cli.compliance_report import budget, snippet, verdicts
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError
from serl_core.robots.messages import ImpedanceParams

LIMITS = SafetyLimits()
RAM = (15.0, 3.2, 11.0)  # N, HIL-SERL's RAM task

limits = st.builds(
    SafetyLimits,
    speed_m_s=st.floats(0.05, 0.5),
    spring_force_n=st.floats(5.0, 50.0),
    spring_torque_nm=st.floats(2.0, 25.0),
    stiffness_n_m=st.tuples(st.floats(50.0, 300.0), st.floats(400.0, 3000.0)),
    damping_ratio=st.tuples(st.floats(0.7, 0.95), st.floats(1.05, 1.5)),
)
forces = st.tuples(*[st.floats(0.05, 100.0)] * 3)
anything = st.builds(
    ImpedanceParams,
    translational_stiffness_n_m=st.floats(0.0, 1e4),
    translational_damping_ns_m=st.floats(0.0, 1e3),
    rotational_stiffness_nm_rad=st.floats(0.0, 1e3),
    rotational_damping_nms_rad=st.floats(0.0, 100.0),
    translational_clip_m=st.tuples(*[st.floats(0.0, 0.2)] * 6),
    rotational_clip_rad=st.tuples(*[st.floats(0.0, 0.5)] * 6),
    nullspace_stiffness_nm_rad=st.floats(0.0, 200.0),
    translational_ki=st.floats(0.0, 100.0),
    rotational_ki=st.floats(0.0, 100.0),
)


def is_taken(params: ImpedanceParams, by: SafetyLimits) -> bool:
    try:
        check_impedance(params, by)
    except Refusal:
        return False
    return True


@settings(max_examples=100)
@given(
    forces, limits, st.none() | st.floats(0.02, 1.0), st.none() | st.floats(1.0, 1e4), st.none() | st.floats(0.1, 50)
)
def test_what_is_computed_is_taken_by_the_server_and_keeps_the_force_or_says_so(forces_n, by, speed, stiffness, torque):
    found = compliance_for(forces_n, by, speed_m_s=speed, stiffness_n_m=stiffness, torque_nm=torque)
    check_impedance(found.params, by)
    said = " ".join(found.notes)
    for axis, asked, force in zip("xyz", forces_n, found.forces_n, strict=True):
        assert force <= asked + 1e-9 or f"{axis}: {asked:g} N was asked for; the weakest" in said
    assert max(found.speeds_m_s) <= (speed or by.speed_m_s) + 1e-9 or "m/s was asked for" in said


@settings(max_examples=100)
@given(anything, limits)
def test_the_nearest_allowed_is_taken_and_what_is_taken_stays_as_it_is(params, by):
    allowed = nearest_allowed(params, by)
    check_impedance(allowed.params, by)
    assert (allowed.refusals == ()) == is_taken(params, by)
    assert nearest_allowed(allowed.params, by) == (allowed.params, ())
    if not allowed.refusals:
        assert allowed.params is params


def test_the_paper_s_ram_gains_come_out_of_their_forces():
    """SAFETY 1.3: K 2000, D 89, clips 7.5, 1.6 and 5.5 mm; 0.17, 0.036 and 0.12 m/s."""
    found = compliance_for(RAM, LIMITS)
    assert found.params.translational_stiffness_n_m == 2000.0
    assert found.params.translational_damping_ns_m == pytest.approx(2.0 * math.sqrt(2000.0), abs=0.01)
    assert found.params.translational_clip_m == (0.0075, 0.0075, 0.0016, 0.0016, 0.0055, 0.0055)
    assert found.forces_n == pytest.approx(RAM)
    assert found.speeds_m_s == pytest.approx((0.168, 0.0358, 0.123), abs=5e-4)
    assert found.notes == ()


def test_a_slow_arm_gets_more_damping_and_then_a_stiffer_spring():
    damped = compliance_for((15.0,) * 3, LIMITS, speed_m_s=0.12).params
    assert damped.translational_stiffness_n_m == 2000.0
    assert damped.translational_damping_ns_m == pytest.approx(125.0)
    stiffer = compliance_for((15.0,) * 3, LIMITS, speed_m_s=0.1).params
    assert stiffer.translational_damping_ns_m == pytest.approx(150.0, abs=0.2)
    assert stiffer.translational_stiffness_n_m > 2000.0


def test_a_force_beyond_the_server_is_named_with_what_is_left_of_it():
    found = compliance_for((60.0,) * 3, LIMITS)
    assert found.forces_n[0] < 50.0
    assert found.notes[0].startswith("x: 60 N was asked for; the server's limits leave ")


def test_more_force_than_three_axes_may_have_together_is_taken_from_the_strongest():
    found = compliance_for((45.0, 45.0, 3.0), LIMITS, stiffness_n_m=3000.0)
    assert math.hypot(*found.forces_n) == pytest.approx(45.0, abs=0.1)
    assert found.forces_n[0] == found.forces_n[1]
    assert found.forces_n[2] == pytest.approx(3.0, abs=0.031)
    params = ImpedanceParams(
        translational_stiffness_n_m=3000.0,
        translational_damping_ns_m=160.0,
        translational_clip_m=(0.012, 0.012, 0.012, 0.002, 0.001, 0.001),
    )
    allowed = nearest_allowed(params, LIMITS)
    assert allowed.refusals == (
        "translational_clip_m: stiffness * the widest clips of x, y and z together must be at most 45 N, got 51 N; "
        "use a smaller clip or less stiffness",
    )
    clip = ((45.0 / 3000.0) ** 2 / 2.0 - 0.001**2 / 2.0) ** 0.5
    assert allowed.params.translational_clip_m == pytest.approx((clip, clip, clip, 0.002, 0.001, 0.001))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"forces_n": (0.0, 1.0, 1.0)}, "max force along x"),
        ({"forces_n": (1.0, math.nan, 1.0)}, "max force along y"),
        ({"forces_n": (1.0, 1.0, math.inf)}, "max force along z"),
        ({"forces_n": RAM, "speed_m_s": 0.0}, "max speed"),
        ({"forces_n": RAM, "stiffness_n_m": -1.0}, "stiffness"),
        ({"forces_n": RAM, "torque_nm": math.inf}, "max torque"),
    ],
)
def test_a_number_that_makes_no_sense_is_named(wish, words):
    with pytest.raises(ConfigError, match=words):
        compliance_for(wish.pop("forces_n"), LIMITS, **wish)


def test_limits_that_exclude_each_other_are_said_to():
    impossible = SafetyLimits(clip_m=(0.01, 0.02), spring_force_n=0.1)
    with pytest.raises(ConfigError, match="no impedance fits"):
        compliance_for(RAM, impossible)


def test_the_six_clips_of_one_kind_are_refused_in_one_sentence():
    params = ImpedanceParams(translational_clip_m=(0.1,) * 6)
    refusals = nearest_allowed(params, LIMITS).refusals
    assert refusals[0] == "translational_clip_m: must be 0.0005 to 0.02, got 0.1"
    assert len(refusals) <= 3


def test_the_snippet_is_python_that_makes_the_same_parameters():
    params = compliance_for(RAM, LIMITS, torque_nm=3.0).params
    names: dict = {"ImpedanceParams": ImpedanceParams}
    exec(f"made = dict({snippet(params)})", names)
    assert names["made"] == {"compliance": params}
    assert snippet(ImpedanceParams()) == "compliance=ImpedanceParams(),"


def test_the_budget_names_each_axis_and_what_comes_on_top():
    lines = budget(compliance_for(RAM, LIMITS), LIMITS).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["x", "y", "z"]
    assert "3.20 N" in lines[2]
    assert "18.9 N" in lines[5]  # the three at once
    assert "up to 14 N" in lines[6]


def test_a_tasks_own_parameters_are_judged():
    task = load_task("ram_insertion").config
    assert verdicts(task, LIMITS).count("taken as it is") == 2
    slow = msgspec.structs.replace(LIMITS, speed_m_s=0.1)
    said = verdicts(task, slow)
    assert said.count("refused, and the old gains stay") == 2
    assert "translational_clip_m: stiffness * clip / damping must be at most 0.1 m/s, got 0.18 m/s" in said
    assert "the nearest that is taken: ImpedanceParams(" in said
