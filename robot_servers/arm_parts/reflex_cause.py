"""Why a Franka stopped itself, by the names of its errors: a touch, or what nobody may recover from unasked."""

from robot_servers.backend import REFLEX

# Parts of the names in libfranka's list of errors. The first that is there counts: the graver come first.
CAUSES = (
    ("power_limit", "power_limit"),
    ("self_collision", "self_collision"),
    ("joint_position_limits", "joint_limit"),
    ("cartesian_position_limits", "joint_limit"),
    ("joint_velocity_violation", "joint_speed"),
    ("communication_constraints", "communication_constraints_violation"),
)


def reflex_cause(errors: str) -> str:
    """Return the cause for a text with the names of the arm's errors; a plain reflex for any other."""
    return next((cause for part, cause in CAUSES if part in errors), REFLEX)
