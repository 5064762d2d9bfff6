"""The limits of the very arm that is connected, from the model that it sends: they differ between arms and systems."""

from xml.etree import ElementTree

from robot_servers.backend import JointLimits
from serl_core.errors import RobotError
from serl_core.robots.messages import Vector7

JOINTS = 7
SPEED_MARGIN_RAD_S = 0.1  # a joint this near the speed at which the arm stops itself is stopped before

# What Franka suggests where the limit of an FR3 falls with the distance to the joint's end.
RECTANGULAR_RAD_S: Vector7 = (2.0, 1.0, 1.5, 1.25, 3.0, 1.5, 3.0)


def joint_limits(urdf: str) -> JointLimits:
    """Return the limits in an arm's model (URDF): the joints that turn, from the base on.

    Raises:
        RobotError: the model has not seven such joints, or one lacks its limits.
    """
    try:
        # The model comes from the arm on its own cable, and expat expands no external entity.
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise RobotError(f"the arm's model is no XML ({error}); update the arm's system image") from None
    joints = [joint for joint in root.iter("joint") if joint.get("type") == "revolute"][:JOINTS]
    if len(joints) < JOINTS:
        raise RobotError(f"the arm's model has {len(joints)} joints that turn, expected {JOINTS}; is it a Franka arm?")
    low, high, speed = [], [], []
    for joint, suggested in zip(joints, RECTANGULAR_RAD_S, strict=True):
        limit = joint.find("limit")
        try:
            if limit is None:
                raise KeyError("limit")
            low.append(float(limit.attrib["lower"]))
            high.append(float(limit.attrib["upper"]))
            fastest = float(limit.attrib["velocity"])
        except (KeyError, ValueError) as error:
            raise RobotError(
                f"the arm's model has no usable {error} of {joint.get('name')!r}; update its system"
            ) from None
        is_falling = joint.find("position_based_velocity_limits") is not None
        speed.append(min(fastest - SPEED_MARGIN_RAD_S, suggested) if is_falling else fastest - SPEED_MARGIN_RAD_S)
    return JointLimits(low_rad=_seven(low), high_rad=_seven(high), speed_rad_s=_seven(speed))


def _seven(values: list[float]) -> Vector7:
    a, b, c, d, e, f, g = values
    return (a, b, c, d, e, f, g)
