"""A touch is a reflex; an arm that stopped for its power, its joints or itself says so."""

import pytest

from robot_servers.arm_parts.reflex_cause import reflex_cause


@pytest.mark.parametrize(
    ("errors", "cause"),
    [
        ('motion aborted by reflex! ["cartesian_reflex"]', "reflex"),
        ('["joint_reflex"]', "reflex"),
        ('["power_limit_violation", "cartesian_reflex"]', "power_limit"),
        ('["self_collision_avoidance_violation"]', "self_collision"),
        ('["joint_position_limits_violation"]', "joint_limit"),
        ('["communication_constraints_violation"]', "communication_constraints_violation"),
        ("", "reflex"),
    ],
)
def test_the_gravest_error_names_the_cause(errors: str, cause: str) -> None:
    assert reflex_cause(errors) == cause
